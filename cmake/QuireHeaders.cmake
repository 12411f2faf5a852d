# Run by `cmake --install`, before it copies what this writes: the library's headers, which name each other
# <quire/…> there, so that a program's own "base/" or "engine/" is never mistaken for one of them.
#   SOURCE  the source tree    OUTPUT  a folder that is replaced
file(REMOVE_RECURSE ${OUTPUT})
# The backends' own headers stay inside: a device is opened by name.
file(GLOB_RECURSE headers RELATIVE ${SOURCE} ${SOURCE}/base/*.h ${SOURCE}/tokenizer/*.h ${SOURCE}/tokens/*.h
  ${SOURCE}/engine/*.h ${SOURCE}/corpus/*.h ${SOURCE}/pipeline/*.h ${SOURCE}/report/*.h)
file(GLOB kernels RELATIVE ${SOURCE} ${SOURCE}/kernels/*.h)
foreach(header quire.h ${headers} ${kernels})
  file(READ ${SOURCE}/${header} text)
  string(REGEX REPLACE "(#include )\"((base|tokenizer|tokens|kernels|engine|corpus|pipeline|report)/[a-z0-9_/]+\\.h)\"" "\\1<quire/\\2>" text "${text}")
  file(WRITE ${OUTPUT}/${header} "${text}")
endforeach()

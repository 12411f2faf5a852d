# The layers as targets.
#
# Every folder is a static library `quire_<name>` whose public include path holds that folder alone:
# a folder of links, ${build}/include/<name>/<folder>. A file of another folder can be included only
# if its target is linked, so a wrong include fails the build.

add_library(quire_warnings INTERFACE)
target_compile_options(quire_warnings INTERFACE
  $<$<COMPILE_LANGUAGE:CXX>:-Wall;-Wextra;-Wshadow;-Wno-missing-field-initializers>)
if(CMAKE_CXX_COMPILER_ID STREQUAL GNU AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  # GCC 12 sees overlapping copies in std::string's own operator+ (its bug 105651).
  target_compile_options(quire_warnings INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Wno-restrict>)
endif()
if(QUIRE_WERROR)
  target_compile_options(quire_warnings INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Werror>)
endif()
if(QUIRE_SANITIZE)
  # Undefined behaviour, too, ends the program: a report that passes as a green test is not read.
  add_compile_options(-fsanitize=${QUIRE_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer -g1)
  if(QUIRE_SANITIZE MATCHES undefined AND CMAKE_CXX_COMPILER_ID STREQUAL GNU)
    # What follows from these AddressSanitizer sees, too; they are asked at every pointer, and take a sixth of the time
    # in which GCC compiles. Alignment takes a quarter of the rest: it is asked for in kernels, and by Clang in all that
    # reads files, which is what is fuzzed.
    add_compile_options(-fno-sanitize=null,vptr,pointer-overflow,alignment)
  endif()
  add_link_options(-fsanitize=${QUIRE_SANITIZE})
  if(QUIRE_SANITIZE MATCHES address)  # GCC and Clang each have a macro of their own for it
    add_compile_definitions(QUIRE_UNDER_ASAN)
  endif()
endif()
if(QUIRE_FUZZ)
  add_compile_options(-fsanitize=fuzzer-no-link)  # which branches were taken: what libFuzzer is led by
endif()

# quire_library(NAME ROOT folder [FLAT] [SUFFIX cu] [ONLY files…] [EXCLUDE files…] [LINKS names…] [PRIVATE targets…])
#   FLAT     the folder's own files, not those of its subfolders
#   LINKS    folders whose headers may be included, and which users of this target see too
#   PRIVATE  libraries that only this folder's sources use
function(quire_library NAME)
  cmake_parse_arguments(A "FLAT" "ROOT;SUFFIX" "ONLY;EXCLUDE;LINKS;PRIVATE" ${ARGN})
  if(NOT A_SUFFIX)
    set(A_SUFFIX cpp)
  endif()
  set(glob_mode GLOB_RECURSE)
  if(A_FLAT)
    set(glob_mode GLOB)
  endif()
  file(${glob_mode} sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/${A_ROOT}/*.${A_SUFFIX})
  quire_batches(12 ${sources})
  if(A_ONLY)
    list(TRANSFORM A_ONLY PREPEND ${CMAKE_SOURCE_DIR}/${A_ROOT}/ OUTPUT_VARIABLE sources)
  endif()
  foreach(file ${A_EXCLUDE})
    list(REMOVE_ITEM sources ${CMAKE_SOURCE_DIR}/${A_ROOT}/${file})
  endforeach()

  set(links ${CMAKE_BINARY_DIR}/include/${NAME})
  get_filename_component(parent ${A_ROOT} DIRECTORY)
  if(A_FLAT)
    file(GLOB headers CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/${A_ROOT}/*.h)
    file(MAKE_DIRECTORY ${links}/${A_ROOT})
    foreach(header ${headers})
      get_filename_component(file ${header} NAME)
      file(CREATE_LINK ${header} ${links}/${A_ROOT}/${file} SYMBOLIC)
    endforeach()
  else()
    file(MAKE_DIRECTORY ${links}/${parent})
    file(CREATE_LINK ${CMAKE_SOURCE_DIR}/${A_ROOT} ${links}/${A_ROOT} SYMBOLIC)
  endif()

  set(target quire_${NAME})
  list(TRANSFORM A_LINKS PREPEND quire_)
  if(sources)
    add_library(${target} STATIC ${sources})
    target_include_directories(${target} PUBLIC $<BUILD_INTERFACE:${links}>)
    target_link_libraries(${target} PUBLIC ${A_LINKS} PRIVATE ${A_PRIVATE} $<BUILD_INTERFACE:quire_warnings>)
  else()
    add_library(${target} INTERFACE)
    target_include_directories(${target} INTERFACE $<BUILD_INTERFACE:${links}>)
    target_link_libraries(${target} INTERFACE ${A_LINKS})
  endif()
endfunction()

# quire_batches(SIZE files…): so many files of a folder at a time make a batch, those that an option leaves out among them:
# so the batches, and whether the names in them differ, are the same in every build.
function(quire_batches SIZE)
  set(last_folder "")
  foreach(file ${ARGN})
    get_filename_component(folder ${file} DIRECTORY)
    if(NOT folder STREQUAL last_folder)
      set(last_folder ${folder})
      set(number 0)
    endif()
    math(EXPR batch "${number} / ${SIZE}")
    math(EXPR number "${number} + 1")
    file(RELATIVE_PATH name ${CMAKE_SOURCE_DIR} ${folder})
    string(REPLACE / _ name ${name})
    set_source_files_properties(${file} PROPERTIES UNITY_GROUP ${name}_${batch})
  endforeach()
endfunction()

# quire_compile_together(TARGET…): a batch is compiled as one file: headers are read, and the standard library's
# templates made, once for all of it. Files with options of their own, which CMake sees, stay apart.
function(quire_compile_together)
  if(QUIRE_UNITY)
    set_target_properties(${ARGN} PROPERTIES UNITY_BUILD ON UNITY_BUILD_MODE GROUP)
  endif()
endfunction()

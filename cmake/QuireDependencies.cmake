# Everything Quire links that is not its own, found in the system's packages.
find_package(Threads REQUIRED)
find_package(nlohmann_json 3.11 REQUIRED)
find_package(fmt 9 REQUIRED)
find_package(ICU REQUIRED COMPONENTS uc)
find_package(ZLIB REQUIRED)
find_package(PkgConfig REQUIRED)

# Highway's CMake package came after Debian 12; its pkg-config file is in both releases we support.
pkg_check_modules(libhwy REQUIRED libhwy)
# Its headers alone: kernels/cpu/targets.cpp says why.
add_library(hwy INTERFACE)
target_include_directories(hwy SYSTEM INTERFACE ${libhwy_INCLUDE_DIRS})
target_compile_options(hwy INTERFACE ${libhwy_CFLAGS_OTHER})
pkg_check_modules(libxxhash REQUIRED IMPORTED_TARGET libxxhash)

# OFF builds without, as where the library is missing.
option(QUIRE_ZSTD "Read .zst with libzstd, where it is found" ON)
set(QUIRE_WITH_ZSTD FALSE)
if(QUIRE_ZSTD)
  pkg_check_modules(libzstd QUIET IMPORTED_TARGET libzstd)
  if(libzstd_FOUND)
    set(QUIRE_WITH_ZSTD TRUE)
  endif()
endif()
if(QUIRE_WITH_ZSTD)
  message(STATUS "Data files .zst: read")
else()
  message(STATUS "Data files .zst: refused (no libzstd-dev, or QUIRE_ZSTD=OFF)")
endif()

# TensorBoard's events are protocol buffers; Boost has the CRC. Without them --report-to tensorboard is
# refused, and the rest is the same.
find_package(Protobuf QUIET)
find_package(Boost QUIET)
# The messages need no reflection, and the whole library takes an eighth of the time in which `quire` starts. What has
# the small one in a package of its own links the whole one.
set(QUIRE_PROTOBUF protobuf::libprotobuf)
if(TARGET protobuf::libprotobuf-lite)
  set(QUIRE_PROTOBUF protobuf::libprotobuf-lite)
endif()
if(Protobuf_FOUND AND Protobuf_PROTOC_EXECUTABLE AND EXISTS "${Boost_INCLUDE_DIRS}/boost/crc.hpp")
  set(QUIRE_WITH_TENSORBOARD ON)
  message(STATUS "TensorBoard events: on (protobuf ${Protobuf_VERSION})")
else()
  set(QUIRE_WITH_TENSORBOARD OFF)
  message(STATUS "TensorBoard events: off (they want libprotobuf-dev, protobuf-compiler and libboost-dev)")
endif()

# OpenAI's checkpoints of TensorFlow: their index is a table of LevelDB, whose values are protocol buffers. OFF builds
# without, as where one of these is missing. The package of LevelDB asks for snappy's own, which its shared library
# does without: so that is linked as it is.
option(QUIRE_TENSORFLOW "Read TensorFlow's checkpoints, where LevelDB and protobuf are found" ON)
set(QUIRE_WITH_TENSORFLOW OFF)
if(QUIRE_TENSORFLOW)
  find_path(LEVELDB_INCLUDE_DIR leveldb/table.h)
  find_library(LEVELDB_LIBRARY leveldb)
  if(LEVELDB_INCLUDE_DIR AND LEVELDB_LIBRARY AND Protobuf_FOUND AND Protobuf_PROTOC_EXECUTABLE)
    set(QUIRE_WITH_TENSORFLOW ON)
  endif()
endif()
if(QUIRE_WITH_TENSORFLOW)
  message(STATUS "TensorFlow checkpoints: read (${LEVELDB_LIBRARY})")
else()
  message(STATUS "TensorFlow checkpoints: refused (no libleveldb-dev, libprotobuf-dev or protobuf-compiler, or QUIRE_TENSORFLOW=OFF)")
endif()

# The Hub. Both libraries are loaded when a command wants them, so that the others start without: their headers are
# what is built with.
option(QUIRE_HUB "quire download and quire upload, where libcurl and OpenSSL are found" ON)
set(QUIRE_WITH_HUB FALSE)
if(QUIRE_HUB)
  find_package(CURL QUIET)
  find_package(OpenSSL QUIET COMPONENTS Crypto)
  if(CURL_FOUND AND OPENSSL_FOUND)
    set(QUIRE_WITH_HUB TRUE)
  endif()
endif()
if(QUIRE_WITH_HUB)
  message(STATUS "The Hub: download and upload (libcurl ${CURL_VERSION_STRING}, OpenSSL ${OPENSSL_VERSION})")
else()
  message(STATUS "The Hub: refused (no libcurl4-openssl-dev or libssl-dev, or QUIRE_HUB=OFF)")
endif()

# Training with several processes. OFF builds without, as where no MPI is found.
option(QUIRE_MPI "Train with several processes over MPI, where it is found" ON)
set(QUIRE_WITH_MPI FALSE)
if(QUIRE_MPI)
  set(MPI_CXX_SKIP_MPICXX ON)
  find_package(MPI QUIET COMPONENTS CXX)
  set(QUIRE_WITH_MPI ${MPI_CXX_FOUND})
endif()
if(QUIRE_WITH_MPI)
  message(STATUS "Several processes: MPI ${MPI_CXX_VERSION} (${MPI_CXX_COMPILER})")
else()
  message(STATUS "Several processes: off (no libopenmpi-dev or libmpich-dev, or QUIRE_MPI=OFF)")
endif()

if(QUIRE_TESTS)
  # Catch2 2 (Debian 12) and 3 (Ubuntu 24.04) differ in headers and targets: tests/support/catch.h knows both.
  find_package(Catch2 REQUIRED)
endif()

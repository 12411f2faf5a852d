# Everything Quire links that is not its own, found in the system's packages.
find_package(Threads REQUIRED)
find_package(nlohmann_json 3.11 REQUIRED)
find_package(fmt 9 REQUIRED)
find_package(cxxopts REQUIRED)
find_package(ICU REQUIRED COMPONENTS uc)
find_package(PkgConfig REQUIRED)

# Highway's CMake package came after Debian 12; its pkg-config file is in both releases we support.
pkg_check_modules(libhwy REQUIRED IMPORTED_TARGET libhwy)
add_library(hwy ALIAS PkgConfig::libhwy)

# TensorBoard's events are protocol buffers; Boost has the CRC. Without them --report-to tensorboard is
# refused, and the rest is the same.
find_package(Protobuf QUIET)
find_package(Boost QUIET)
if(Protobuf_FOUND AND Protobuf_PROTOC_EXECUTABLE AND EXISTS "${Boost_INCLUDE_DIRS}/boost/crc.hpp")
  set(QUIRE_WITH_TENSORBOARD ON)
  message(STATUS "TensorBoard events: on (protobuf ${Protobuf_VERSION})")
else()
  set(QUIRE_WITH_TENSORBOARD OFF)
  message(STATUS "TensorBoard events: off (they want libprotobuf-dev, protobuf-compiler and libboost-dev)")
endif()

if(QUIRE_TESTS)
  # Catch2 2 (Debian 12) and 3 (Ubuntu 24.04) differ in headers and targets: tests/support/catch.h knows both.
  find_package(Catch2 REQUIRED)
endif()

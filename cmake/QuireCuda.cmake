# The CUDA kernels. AUTO builds them where both nvcc and an NVIDIA driver are found, for the card that is
# there; ON wants nvcc alone and builds for what is named in CMAKE_CUDA_ARCHITECTURES.
set(QUIRE_CUDA AUTO CACHE STRING "CUDA kernels: AUTO, ON or OFF")
set_property(CACHE QUIRE_CUDA PROPERTY STRINGS AUTO ON OFF)

set(QUIRE_WITH_CUDA OFF)
if(QUIRE_CUDA STREQUAL AUTO)
  if(EXISTS /proc/driver/nvidia/version)
    include(CheckLanguage)
    check_language(CUDA)
    if(CMAKE_CUDA_COMPILER)
      set(QUIRE_WITH_CUDA ON)
    endif()
    if(NOT CMAKE_CUDA_ARCHITECTURES)
      set(CMAKE_CUDA_ARCHITECTURES native)
    endif()
  endif()
elseif(QUIRE_CUDA)
  set(QUIRE_WITH_CUDA ON)
  if(NOT CMAKE_CUDA_ARCHITECTURES)
    set(CMAKE_CUDA_ARCHITECTURES 80-real 90a-real 90-virtual)
  endif()
endif()
if(NOT QUIRE_WITH_CUDA)
  message(STATUS "CUDA kernels: off (QUIRE_CUDA=${QUIRE_CUDA})")
  return()
endif()

enable_language(CUDA)
if(CCACHE AND NOT CMAKE_CUDA_COMPILER_LAUNCHER)
  set(CMAKE_CUDA_COMPILER_LAUNCHER ${CCACHE})
endif()
find_package(CUDAToolkit REQUIRED)
set(CMAKE_CUDA_STANDARD 20)
set(CMAKE_CUDA_STANDARD_REQUIRED ON)
if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)  # Debian 12's CMake does not know that nvcc 12 and later have it
  set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
  set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION -std=c++20)
endif()
message(STATUS "CUDA kernels: ${CMAKE_CUDA_COMPILER} for ${CMAKE_CUDA_ARCHITECTURES}")

# The runtime is linked in, so a machine needs the driver and libcublasLt.so, half a gigabyte that cublaslt.cu
# loads when a card is there to use it. dlopen looks where the caller's RUNPATH says, and the caller, being a static
# library, is the program: so beside the program too, and a copy there is all that has to be carried along.
set(CMAKE_INSTALL_RPATH $ORIGIN ${CUDAToolkit_LIBRARY_DIR})
set(CMAKE_BUILD_WITH_INSTALL_RPATH ON)  # else CMake pads the build's with empty entries, which mean any folder
quire_library(cuda ROOT kernels/cuda SUFFIX cu LINKS kernels PRIVATE CUDA::cudart_static ${CMAKE_DL_LIBS})
target_compile_options(quire_cuda PRIVATE --expt-relaxed-constexpr
  -Xcompiler=-Wall,-Wextra,-Wno-missing-field-initializers)
if(CMAKE_CXX_COMPILER_ID STREQUAL GNU AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  target_compile_options(quire_cuda PRIVATE -Xcompiler=-Wno-restrict)  # as in QuireTargets.cmake
endif()
if(QUIRE_WERROR)
  target_compile_options(quire_cuda PRIVATE -Werror=all-warnings -Xcompiler=-Werror)
endif()

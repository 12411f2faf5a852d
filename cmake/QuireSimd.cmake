# How the CPU kernels are compiled.
#
# Highway compiles each kernel once for every target it is not told to leave out, and picks at run
# time. We keep AVX-512 (AVX3), AVX2, SSE4, NEON and the plain fallback; what lies between them
# would double the compile time for processors that are hardly there. Given as bits, as Highway's
# releases do not all know all names: 0-7 better than AVX3, 12 SSSE3, 14 SSE2, 23-27 SVE, 37 RVV.
set(without 0x200F8050FFLL)
if(QUIRE_SANITIZE)
  # Sanitized, a file takes minutes for all of them, and tests run the processor's own: AVX2 (without AVX3, 8, and SSE4,
  # 11), and the fallback only where the program cannot begin with AVX2.
  set(without 0x200F8059FFLL)
  set(processor "")
  if(EXISTS /proc/cpuinfo)
    file(STRINGS /proc/cpuinfo processor REGEX "^flags.* avx2 .*" LIMIT_COUNT 1)
  endif()
  if(processor)
    target_compile_options(quire_cpu PRIVATE -march=x86-64-v3 -maes -mpclmul)
  endif()
endif()
target_compile_definitions(quire_cpu PRIVATE HWY_DISABLED_TARGETS=${without})
if(QUIRE_SCALAR)
  target_compile_definitions(quire_cpu PRIVATE HWY_COMPILE_ONLY_SCALAR)
endif()
# Multiply-adds are fused where the kernels say so and nowhere else: otherwise the same formula could
# round differently in two places, and results must not depend on which of them computed a row.
target_compile_options(quire_cpu PRIVATE -ffp-contract=off)
if(CMAKE_CXX_COMPILER_ID STREQUAL GNU AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  # GCC 12 takes the registers that its own AVX-512 intrinsics leave undefined for a mistake (its bug 105593).
  set_source_files_properties(kernels/cpu/gemm_bf16.cpp kernels/cpu/stream_bf16.cpp kernels/cpu/lanes_bf16.cpp
    kernels/cpu/gemm_amx.cpp kernels/cpu/stream_amx.cpp PROPERTIES
    COMPILE_OPTIONS "-Wno-uninitialized;-Wno-maybe-uninitialized")
endif()

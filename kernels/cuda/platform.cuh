// The one place that knows how the .cu files are built: by nvcc for a GPU, or by the host's
// compiler against tests/cuda_on_host, which runs them on the CPU.
//
//   QUIRE_LAUNCH(kernel, grid, block, shared_bytes, stream, arguments…)   instead of <<<>>>
//   QUIRE_SHARED(float, partial, 32);         an array of the block, in place of __shared__
//   std::byte* tiles = QUIRE_DYNAMIC_SHARED;  the launch's shared_bytes
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/error.h"

#ifdef QUIRE_CUDA_ON_HOST

#include "tests/cuda_on_host/platform.h"

#define QUIRE_LAUNCH(kernel, grid, block, shared_bytes, stream, ...)                  \
  do {                                                                                \
    ::quire::cuda_on_host::launch(#kernel, kernel, grid, block, shared_bytes, stream, \
                                  __VA_ARGS__);                                       \
    QUIRE_CUDA(cudaGetLastError(), #kernel);                                          \
  } while (false)
#define QUIRE_SHARED(type, name, count)      \
  static const char name##_tag = 0;          \
  auto& name = *static_cast<type(*)[count]>( \
      ::quire::cuda_on_host::static_shared(&name##_tag, sizeof(type) * (count)))
#define QUIRE_DYNAMIC_SHARED (::quire::cuda_on_host::dynamic_shared())

#else

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#define QUIRE_LAUNCH(kernel, grid, block, shared_bytes, stream, ...) \
  do {                                                               \
    (kernel)<<<grid, block, shared_bytes, stream>>>(__VA_ARGS__);    \
    QUIRE_CUDA(cudaGetLastError(), #kernel);                         \
  } while (false)
#define QUIRE_SHARED(type, name, count) __shared__ type name[count]
namespace quire::cuda {
__device__ inline std::byte* dynamic_shared() {
  extern __shared__ __align__(128) std::byte bytes[];
  return bytes;
}
}  // namespace quire::cuda
#define QUIRE_DYNAMIC_SHARED (::quire::cuda::dynamic_shared())

#endif

// CUDA's errors as exceptions: the call, what it was for, the op in hand, and what CUDA says.
#pragma once

#include "base/error.h"
#ifdef QUIRE_CUDA_ON_HOST
#include "tests/cuda_on_host/runtime.h"
#else
#include <cuda_runtime.h>
#endif

namespace quire::cuda {

/// Throws Error(no_space) where device memory is used up, with what there is of it, and
/// Error(device) otherwise. Both name the last op with its extents: the one in hand, or, where a
/// kernel's fault comes out of a later call, the last that it can have been.
[[noreturn]] void throw_cuda(cudaError_t error, const char* call, const char* what);

}  // namespace quire::cuda

/// QUIRE_CUDA(cudaStreamSynchronize(stream), "layernorm_forward");
#define QUIRE_CUDA(call, what)                                                           \
  do {                                                                                   \
    const cudaError_t quire_error = (call);                                              \
    if (quire_error != cudaSuccess) ::quire::cuda::throw_cuda(quire_error, #call, what); \
  } while (false)

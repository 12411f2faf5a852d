// CUDA's errors as exceptions: the call, what it was for, and what CUDA says.
#pragma once

#include <string>

#include "base/error.h"
#ifdef QUIRE_CUDA_ON_HOST
#include "tests/cuda_on_host/runtime.h"
#else
#include <cuda_runtime.h>
#endif

namespace quire::cuda {

[[noreturn]] inline void throw_cuda(cudaError_t error, const char* call, const char* what) {
  throw Error(error == cudaErrorMemoryAllocation ? Fault::no_space : Fault::device,
              std::string(what) + ": " + call + " failed: " + cudaGetErrorString(error),
              {std::string("CUDA calls this ") + cudaGetErrorName(error)}, "quire doctor");
}

}  // namespace quire::cuda

/// QUIRE_CUDA(cudaStreamSynchronize(stream), "layernorm_forward");
#define QUIRE_CUDA(call, what)                                                           \
  do {                                                                                   \
    const cudaError_t quire_error = (call);                                              \
    if (quire_error != cudaSuccess) ::quire::cuda::throw_cuda(quire_error, #call, what); \
  } while (false)

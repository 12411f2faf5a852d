// Elementary functions where CUDA's own do more than the kernels need.
#pragma once

#include "kernels/cuda/platform.cuh"

namespace quire::cuda {

/// 2^x to 2 ulp, one instruction of the special function unit; results below 2^-126 become 0.
__device__ __forceinline__ float fast_exp2(float x) {
#ifdef QUIRE_CUDA_ON_HOST
  const float y = exp2f(x);
  return y < 0x1p-126f ? 0.0f : y;
#else
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#endif
}

/// e^x, the error of its argument's product included: x·2^-23 more.
__device__ __forceinline__ float fast_exp(float x) {
  return fast_exp2(x * 1.44269504f);
}

}  // namespace quire::cuda

// The activations and their slopes for one element in float: also for the epilogues of other ops.
//
// A memory-bound pass in bf16 leaves about 40 instructions and 5 of the special function unit an
// element on H100; gelu_new takes about 15 and 2.
#pragma once

#include "kernels/cuda/platform.cuh"
#include "kernels/ops.h"

namespace quire::cuda {

/// 1/(1 + e^-x), and 1 minus that without cancellation. NaN stays NaN.
struct Sigmoid {
  float value;
  float complement;
};
__device__ __forceinline__ Sigmoid sigmoid(float x) {
  // Where e^-x would overflow, complement would be infinity times 0; a minimum would lose a NaN.
  const float e = __expf(x < -87.0f ? 87.0f : -x);
  const float value = __fdividef(1.0f, 1.0f + e);
  return {value, e * value};
}

/// 2·sqrt(2/pi)·(x + 0.044715·x³): gelu_new is x·sigmoid of it, as 0.5·(1 + tanh(u)) = sigmoid(2u).
__device__ __forceinline__ float gelu_new_argument(float x) {
  return x * (1.59576912f + 0.0713548163f * x * x);
}

template <Activation kind>
__device__ __forceinline__ float activate(float x) {
  if constexpr (kind == Activation::gelu_new) return x * sigmoid(gelu_new_argument(x)).value;
  if constexpr (kind == Activation::gelu) return 0.5f * x * (1.0f + erff(x * 0.707106781f));
  // x < 0 rather than a maximum, which would turn NaN into 0.
  if constexpr (kind == Activation::relu) return x < 0.0f ? 0.0f : x;
  if constexpr (kind == Activation::silu) return x * sigmoid(x).value;
  if constexpr (kind == Activation::tanh) return tanhf(x);
  return x;
}

template <Activation kind>
__device__ __forceinline__ float activation_slope(float x) {
  if constexpr (kind == Activation::gelu_new) {
    const Sigmoid s = sigmoid(gelu_new_argument(x));
    const float argument_slope = 1.59576912f + 0.214064449f * x * x;
    return s.value + x * s.complement * s.value * argument_slope;
  }
  if constexpr (kind == Activation::gelu) {
    const float cumulative = 0.5f + 0.5f * erff(x * 0.707106781f);
    return cumulative + x * 0.398942280f * __expf(-0.5f * x * x);
  }
  if constexpr (kind == Activation::relu) return x > 0.0f ? 1.0f : 0.0f;
  if constexpr (kind == Activation::silu) {
    const Sigmoid s = sigmoid(x);
    return s.value + x * s.complement * s.value;
  }
  if constexpr (kind == Activation::tanh) {
    const float y = tanhf(x);
    return 1.0f - y * y;
  }
  return 1.0f;
}

}  // namespace quire::cuda

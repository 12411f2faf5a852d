// What the kernels between logits and token share.
#pragma once

#include <bit>

#include "kernels/cuda/platform.cuh"

namespace quire::cuda {

inline constexpr int kMostThreads = 1024;

/// A number that orders as the score does; 0 for minus infinity and NaN, which are no candidates.
__device__ __forceinline__ unsigned key_of(float score) {
  if (!(score > -INFINITY)) return 0;
  const auto bits = score == 0.0f ? 0u : std::bit_cast<unsigned>(score);  // both zeros are equal
  return (bits >> 31) != 0 ? ~bits : bits | 0x80000000u;
}
__device__ __forceinline__ float score_of(unsigned key) {
  return std::bit_cast<float>((key >> 31) != 0 ? key & 0x7fffffffu : ~key);
}

struct Higher {
  template <class T>
  __device__ __forceinline__ T operator()(T a, T b) const {
    return a > b ? a : b;
  }
};
struct Lower {
  template <class T>
  __device__ __forceinline__ T operator()(T a, T b) const {
    return a < b ? a : b;
  }
};

/// Of a row in shared memory beside the kernels' own arrays; 0 where it does not fit.
inline std::size_t bytes_of_held_row(std::int64_t V, const cudaDeviceProp& properties) {
  constexpr std::size_t kOwn = 12 << 10;
  const std::size_t bytes = static_cast<std::size_t>(V) * sizeof(float);
  return bytes + kOwn <= properties.sharedMemPerBlockOptin ? bytes : 0;
}

}  // namespace quire::cuda

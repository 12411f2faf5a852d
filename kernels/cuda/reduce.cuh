// The only reductions of the project's kernels: over a warp, and over a block. Their order is
// fixed, so equal inputs give equal bits.
#pragma once

#include "kernels/cuda/platform.cuh"

namespace quire::cuda {

inline constexpr int kWarp = 32;
inline constexpr unsigned kWholeWarp = 0xffffffffu;

struct Add {
  template <class T>
  __device__ __forceinline__ T operator()(T a, T b) const {
    return a + b;
  }
};
struct Either {
  __device__ __forceinline__ unsigned operator()(unsigned a, unsigned b) const { return a | b; }
};
/// The larger one, and NaN where there is one.
struct Largest {
  __device__ __forceinline__ float operator()(float a, float b) const {
    return a > b || a != a ? a : b;
  }
};

/// The larger one; a NaN only of two.
struct Greater {
  __device__ __forceinline__ float operator()(float a, float b) const { return fmaxf(a, b); }
};

/// Every lane gets the result of its group of kLanes neighbours (a power of two).
template <int kLanes, class T, class Combine>
__device__ __forceinline__ T reduce_neighbours(T value, Combine combine) {
#pragma unroll
  for (int distance = kLanes / 2; distance > 0; distance /= 2) {
    value = combine(value, __shfl_xor_sync(kWholeWarp, value, distance));
  }
  return value;
}
/// Every lane gets the result of all 32.
template <class T, class Combine>
__device__ __forceinline__ T reduce_warp(T value, Combine combine) {
  return reduce_neighbours<kWarp>(value, combine);
}
__device__ __forceinline__ float warp_sum(float value) {
  return reduce_warp(value, Add{});
}

/// Every lane gets the result of those that have its place in their groups of kLanes.
template <int kLanes, class T, class Combine>
__device__ __forceinline__ T reduce_groups(T value, Combine combine) {
#pragma unroll
  for (int distance = kLanes; distance < kWarp; distance *= 2) {
    value = combine(value, __shfl_xor_sync(kWholeWarp, value, distance));
  }
  return value;
}

/// Every thread of the block gets the result of all; `neutral` changes nothing. All threads call
/// it, in blocks of one dimension and whole warps. It begins and ends with a barrier, so it may be
/// called again at once.
template <class T, class Combine>
__device__ __forceinline__ T reduce_block(T value, T neutral, Combine combine) {
  QUIRE_SHARED(T, of_warps, kWarp);
  const int warp = static_cast<int>(threadIdx.x) / kWarp,
            lane = static_cast<int>(threadIdx.x) % kWarp;
  const int warps = static_cast<int>(blockDim.x) / kWarp;
  value = reduce_warp(value, combine);
  __syncthreads();  // the last call's results have been read
  if (lane == 0) of_warps[warp] = value;
  __syncthreads();
  return reduce_warp(lane < warps ? of_warps[lane] : neutral, combine);
}
__device__ __forceinline__ float block_sum(float value) {
  return reduce_block(value, 0.0f, Add{});
}

/// The sum of the values of all lower threads, under the same conditions.
template <class T>
__device__ __forceinline__ T block_sum_before(T value) {
  QUIRE_SHARED(T, before_warps, kWarp);
  const int warp = static_cast<int>(threadIdx.x) / kWarp,
            lane = static_cast<int>(threadIdx.x) % kWarp;
  const int warps = static_cast<int>(blockDim.x) / kWarp;
  const auto up_to_here = [&](T sum) {
#pragma unroll
    for (int distance = 1; distance < kWarp; distance *= 2) {
      const T below = __shfl_up_sync(kWholeWarp, sum, distance);
      if (lane >= distance) sum = below + sum;
    }
    return sum;
  };
  const T in_warp = up_to_here(value);
  __syncthreads();  // the last call's results have been read
  if (lane == kWarp - 1) before_warps[warp] = in_warp;
  __syncthreads();
  const T of_warps = up_to_here(lane < warps ? before_warps[lane] : T{});
  const T below = __shfl_sync(kWholeWarp, of_warps, warp - 1 < 0 ? 0 : warp - 1);
  const T lower = __shfl_up_sync(kWholeWarp, in_warp, 1);
  return (warp == 0 ? T{} : below) + (lane == 0 ? T{} : lower);
}

}  // namespace quire::cuda

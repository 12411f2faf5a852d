// Ops that know no rows: a thread takes several groups of 8 elements, 16 bytes of a 16-bit type,
// and fetches all of them before it looks at one.
#pragma once

#include "kernels/cuda/vec.cuh"

namespace quire::cuda {

inline constexpr int kFlatThreads = 256;
inline constexpr int kFlatGroup = 8;

/// Groups of a thread, for ops that read kInputs tensors: together four loads of 16 bytes, which
/// leaves room for 2048 threads on an SM.
template <class T, int kInputs>
inline constexpr int kFlatGroups = 4 * 16 / (kFlatGroup * static_cast<int>(sizeof(T)) * kInputs);

/// A block's elements: [first, first + count), count > 0. They make a row for fetch and store_row.
struct FlatBlock {
  std::int64_t first;
  int count;

  template <int kGroups>
  __device__ __forceinline__ static FlatBlock of(std::int64_t count) {
    constexpr int kMost = kGroups * kFlatThreads * kFlatGroup;
    const std::int64_t first = std::int64_t{blockIdx.x} * kMost, rest = count - first;
    return {first, rest < kMost ? static_cast<int>(rest) : kMost};
  }
};
/// Where group g of the calling thread begins in its block: neighbours take neighbours.
__device__ __forceinline__ int flat_index(int g) {
  return (g * kFlatThreads + static_cast<int>(threadIdx.x)) * kFlatGroup;
}

/// The calling thread's groups of a block of `data`, the first of which there is. For others beyond
/// the end it fetches the first again: ops work in place, and other threads write theirs.
template <bool kWhole, int kGroups, Load kLoad = Load::plain, class T>
__device__ __forceinline__ void fetch_flat(Packs<T, kFlatGroup> (&groups)[kGroups], const T* data,
                                           const FlatBlock& block) {
#pragma unroll
  for (int g = 0; g < kGroups; ++g) {
    const int i = flat_index(g) < block.count ? flat_index(g) : flat_index(0);
    groups[g] = fetch<kWhole, kFlatGroup, kLoad>(data + block.first, i, block.count);
  }
}

template <int kGroups>
unsigned flat_blocks(std::int64_t count) {
  constexpr std::int64_t kPerBlock = kGroups * kFlatThreads * kFlatGroup;
  return static_cast<unsigned>((count + kPerBlock - 1) / kPerBlock);
}

}  // namespace quire::cuda

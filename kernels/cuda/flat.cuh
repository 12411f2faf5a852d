// Ops that know no rows: each thread takes 8 elements that lie together, 16 bytes of a 16-bit type.
#pragma once

#include "kernels/cuda/vec.cuh"

namespace quire::cuda {

inline constexpr int kFlatThreads = 256;
inline constexpr int kFlatGroup = 8;

/// The elements of the calling thread: [first, first + count), count <= 0 beyond the end.
struct FlatPart {
  std::int64_t first;
  int count;
};
__device__ __forceinline__ FlatPart flat_part(std::int64_t count) {
  const std::int64_t first =
      (std::int64_t{blockIdx.x} * kFlatThreads + threadIdx.x) * std::int64_t{kFlatGroup};
  const std::int64_t rest = count - first;
  return {first, rest < kFlatGroup ? static_cast<int>(rest) : kFlatGroup};
}

inline unsigned flat_blocks(std::int64_t count) {
  constexpr std::int64_t kPerBlock = kFlatThreads * kFlatGroup;
  return static_cast<unsigned>((count + kPerBlock - 1) / kPerBlock);
}

}  // namespace quire::cuda

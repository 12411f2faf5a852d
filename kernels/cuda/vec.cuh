// What a launcher asks before it picks a kernel: the type of the elements, and whether rows may be
// accessed 16 bytes at a time (packs.cuh). And of its launch: blocks, threads, shared memory.
#pragma once

#include <type_traits>

#include "kernels/cuda/packs.cuh"

namespace quire::cuda {

/// Whether rows of C elements of all these views may be accessed in steps of `step` elements, each
/// of them whole and aligned. Views that are not given do not count.
template <class... Views>
bool whole_rows(std::int64_t C, int step, const Views&... views) {
  const auto aligned = [](const ConstView& view) {
    return reinterpret_cast<std::uintptr_t>(view.bytes()) % 16 == 0;
  };
  return C % step == 0 && (aligned(views) && ...);
}

/// dispatch() for a condition that picks a kernel: choose(condition, [&](auto yes) { kernel<yes>… }).
template <class Work>
void choose(bool condition, const Work& work) {
  if (condition) {
    work(std::true_type{});
  } else {
    work(std::false_type{});
  }
}

inline unsigned blocks_of(std::int64_t count, std::int64_t per_block) {
  return static_cast<unsigned>((count + per_block - 1) / per_block);
}

/// Of a block for a row over the vocabulary: by V alone, as the order of the sums hangs on it. A
/// power of two.
inline int threads_for(std::int64_t V, int most) {
  int threads = 32;
  while (threads < most && threads * 8 < V) threads *= 2;
  return threads;
}

/// Lets blocks of the op's kernel have so much dynamic shared memory.
template <class... P>
void allow_shared(void (*kernel)(P...), std::size_t bytes, const char* op) {
  QUIRE_CUDA(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                  static_cast<int>(bytes)),
             op);
}

}  // namespace quire::cuda

// What a launcher asks before it picks a kernel: the type of the elements, and whether rows may be
// accessed 16 bytes at a time (packs.cuh).
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

}  // namespace quire::cuda

// Matrices of a model that lie as [out, in], once more as [in, out]: as which few rows are multiplied by
// them at the speed of memory (kernels/cpu/stream.h).
#pragma once

#include <atomic>
#include <cstddef>
#include <vector>

#include "kernels/weight.h"

namespace quire {

/// A place for each entry of parameter_list(). Any threads may read while one fills them.
class TurnedMatrices {
 public:
  explicit TurnedMatrices(std::size_t parameters) : data_(parameters) {}

  /// Of an entry that is stored as `stored`: [in, out], or as long as it is not there, `stored` itself.
  Weight instead_of(const Weight& stored, std::size_t index) const {
    const void* const data = data_[index].load(std::memory_order_acquire);
    if (data == nullptr) return stored;
    return {data, stored.format, WeightLayout::in_out, {stored.in(), stored.out()}};
  }
  /// [in, out] of the stored one's elements, which stay where they are.
  void put(std::size_t index, const void* data) {
    data_[index].store(data, std::memory_order_release);
  }

 private:
  std::vector<std::atomic<const void*>> data_;
};

}  // namespace quire

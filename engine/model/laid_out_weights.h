// Weights of a model once more, laid out as a device reads them fastest (Device::layout_to_decode).
#pragma once

#include <atomic>
#include <cstddef>
#include <vector>

#include "kernels/weight.h"

namespace quire {

/// A place for each entry of parameter_list(). Any threads may read while one fills them.
class LaidOutWeights {
 public:
  explicit LaidOutWeights(std::size_t entries) : places_(entries) {}

  /// Of an entry that is stored as `stored`; that itself until it is there.
  Weight instead_of(const Weight& stored, std::size_t index) const {
    const Place& place = places_[index];
    const void* const data = place.data.load(std::memory_order_acquire);
    if (data == nullptr) return stored;
    return {data, stored.format, place.layout, {stored.in(), stored.out()}};
  }
  void put(std::size_t index, WeightLayout layout, const void* data) {
    places_[index].layout = layout;
    places_[index].data.store(data, std::memory_order_release);
  }

 private:
  struct Place {
    WeightLayout layout = WeightLayout::panels;
    std::atomic<const void*> data = nullptr;
  };
  std::vector<Place> places_;
};

}  // namespace quire

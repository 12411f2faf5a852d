// From one float type to another: 6 bytes an element between 16 bits and float,
// 8 where what is there is added to.
#include "kernels/cuda/convert.h"

#include <algorithm>

#include "kernels/cuda/flat.cuh"

namespace quire::cuda {
namespace {

/// Four loads of a thread under way, or two where the result has twice their bytes.
template <class To, class From>
constexpr int kGroups = std::min(kFlatGroups<To, 1>, kFlatGroups<From, 1>);

template <class To, class From, bool kWhole>
__global__ void __launch_bounds__(kFlatThreads)
    convert_elements(To* to, const From* from, std::int64_t count) {
  constexpr int kOwn = kGroups<To, From>;
  const FlatBlock block = FlatBlock::of<kOwn>(count);
  if (flat_index(0) >= block.count) return;
  Packs<From, kFlatGroup> groups[kOwn];
  fetch_flat<kWhole>(groups, from, block);
#pragma unroll
  for (int g = 0; g < kOwn; ++g) {
    float values[kFlatGroup];
    widen(groups[g], values);
    store_row<kWhole>(to + block.first, flat_index(g), block.count, values);
  }
}

template <class To, bool kWhole>
__global__ void __launch_bounds__(kFlatThreads)
    add_elements(To* to, const float* from, std::int64_t count) {
  constexpr int kOwn = kGroups<To, float>;
  const FlatBlock block = FlatBlock::of<kOwn>(count);
  if (flat_index(0) >= block.count) return;
  Packs<To, kFlatGroup> sums[kOwn];
  Packs<float, kFlatGroup> groups[kOwn];
  fetch_flat<kWhole>(sums, to, block);
  fetch_flat<kWhole>(groups, from, block);
#pragma unroll
  for (int g = 0; g < kOwn; ++g) {
    float values[kFlatGroup], added[kFlatGroup];
    widen(sums[g], values);
    widen(groups[g], added);
#pragma unroll
    for (int j = 0; j < kFlatGroup; ++j) values[j] += added[j];
    store_row<kWhole>(to + block.first, flat_index(g), block.count, values);
  }
}

}  // namespace

void add(const View& to, const ConstView& from, cudaStream_t stream) {
  const std::int64_t count = to.count();
  dispatch(to.dtype(), [&]<class To>() {
    choose(whole_rows(count, kFlatGroup, to, from), [&](auto whole) {
      QUIRE_LAUNCH((add_elements<To, whole()>), (flat_blocks<kGroups<To, float>>(count)),
                   kFlatThreads, 0, stream, to.data<To>(), from.data<float>(), count);
    });
  });
}

void convert(const View& to, const ConstView& from, cudaStream_t stream) {
  const std::int64_t count = to.count();
  dispatch(to.dtype(), [&]<class To>() {
    dispatch(from.dtype(), [&]<class From>() {
      choose(whole_rows(count, kFlatGroup, to, from), [&](auto whole) {
        QUIRE_LAUNCH((convert_elements<To, From, whole()>), (flat_blocks<kGroups<To, From>>(count)),
                     kFlatThreads, 0, stream, to.data<To>(), from.data<From>(), count);
      });
    });
  });
}

}  // namespace quire::cuda

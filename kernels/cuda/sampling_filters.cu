// The filters of sampling: temperature, top-k, top-p and min-p over a row, a block for each.
//
// Nothing is sorted. A filter is a cut through the ranking of the row: it keeps what is better than
// some score, and of those equal to it the first few by index. The cut is where the elements above
// it are enough, by count (top-k) or by probability (top-p), and is found by histograms of 1024
// bins each of which takes the interval apart further: first evenly in the score, where logits
// spread well, then evenly in the bits of the floats in the bin that holds the cut, until one float
// is left. For 50,257 logits these are three histograms, the last two over a few dozen elements.
//
// Probabilities are counted in whole numbers, multiples of 2^-46 of the best one at V = 50,257:
// such sums have no order, so threads may add in any, and every level agrees with the one before
// it. They are within V·2^-47 of the exact ones, 4e-10, which is all that may tell
// a decision from the CPU's.
//
// A row of 201 KB is read from memory once and written once, and held in shared memory between, or
// stays in L2 where it does not fit. One SM needs some 2 µs for each pass over it and 12 µs for
// the exponentials in double of top-p; after top-k few elements are left to take them of.
#include <algorithm>
#include <bit>
#include <cmath>

#include "kernels/cuda/device.h"
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/sampling.cuh"
#include "kernels/cuda/vec.cuh"

namespace quire::cuda {
namespace {

constexpr int kBins = 1024;
constexpr int kBinBits = 10;

/// The scores of a row, in shared memory or where they are.
struct Row {
  float* scores;
  int V;

  /// Calls work(v, score, key) for the calling thread's candidates.
  template <class Work>
  __device__ __forceinline__ void each(const Work& work) const {
#pragma unroll 4
    for (int v = static_cast<int>(threadIdx.x); v < V; v += static_cast<int>(blockDim.x)) {
      const float score = scores[v];
      const unsigned key = key_of(score);
      if (key != 0) work(v, score, key);
    }
  }
};

/// Keys from lo to hi; lo > hi: none.
struct Interval {
  unsigned lo, hi;
};

/// The span of the candidates that belong.
template <class Member>
__device__ __forceinline__ Interval interval_of(const Row& row, const Member& member) {
  Interval own{~0u, 0};
  row.each([&](int, float score, unsigned key) {
    if (!member(score)) return;
    own = {Lower{}(own.lo, key), Higher{}(own.hi, key)};
  });
  return {reduce_block(own.lo, ~0u, Lower{}), reduce_block(own.hi, 0u, Higher{})};
}

/// Amounts of up to 63 bits. Two halves, as shared memory adds 32 bits at a time.
struct Bins {
  unsigned* low;
  unsigned* high;

  __device__ __forceinline__ void clear() const {
    __syncthreads();
    for (int i = static_cast<int>(threadIdx.x); i < kBins; i += static_cast<int>(blockDim.x)) {
      low[i] = high[i] = 0;
    }
    __syncthreads();
  }
  __device__ __forceinline__ void add(int bin, std::uint64_t amount) const {
    const auto part = static_cast<unsigned>(amount);
    const unsigned before = atomicAdd(&low[bin], part);
    const auto rest =
        static_cast<unsigned>(amount >> 32) + static_cast<unsigned>(before + part < part);
    if (rest != 0) atomicAdd(&high[bin], rest);
  }
  __device__ __forceinline__ std::uint64_t operator[](int bin) const {
    return std::uint64_t{high[bin]} << 32 | low[bin];
  }
};

/// By count: the first k are enough.
struct ByCount {
  std::uint64_t k;
  static constexpr float kRange = INFINITY;  // of scores below the best that differ in amount

  __device__ __forceinline__ std::uint64_t amount(float) const { return 1; }
  __device__ __forceinline__ void learn(std::uint64_t) {}
  /// Whether an element with so much above it is one too many.
  __device__ __forceinline__ bool enough(std::uint64_t above) const { return above >= k; }
};

/// By probability: what an element and all that is worse sum to is at most 1 - top_p.
struct ByProbability {
  double best;
  double unit;  // that many of the best one's probability make a whole
  double rest;  // 1 - top_p
  std::uint64_t total = 0;
  static constexpr float kRange = 32.0f;  // e^-32 is below 2^-46

  __device__ __forceinline__ std::uint64_t amount(float score) const {
    const double p = exp(double{score} - best);
    return p <= 1.0 ? static_cast<std::uint64_t>(p * unit + 0.5) : 0;
  }
  __device__ __forceinline__ void learn(std::uint64_t sum) { total = sum; }
  __device__ __forceinline__ bool enough(std::uint64_t above) const {
    return static_cast<double>(total - above) / static_cast<double>(total) <= rest;
  }
};

/// The first bin with which the amount is enough, kBins if none; `above` what lies above it.
struct Found {
  int bin;
  std::uint64_t above;
};
template <class Measure>
__device__ __forceinline__ Found find_bin(const Bins& bins, std::uint64_t above, Measure& measure,
                                          bool learns) {
  QUIRE_SHARED(Found, found, 1);
  __syncthreads();  // the histogram is complete
  const int per_thread = kBins / static_cast<int>(blockDim.x);
  const int first = static_cast<int>(threadIdx.x) * per_thread;
  std::uint64_t own = 0;
  for (int i = 0; i < per_thread; ++i) own += bins[first + i];
  std::uint64_t before = above + block_sum_before(own);
  if (learns) measure.learn(reduce_block(before + own, std::uint64_t{0}, Higher{}));
  if (threadIdx.x == 0) found[0] = {kBins, 0};
  __syncthreads();
  if (measure.enough(before + own) && (threadIdx.x == 0 || !measure.enough(before))) {
    int bin = first;
    while (bin < first + per_thread - 1 && !measure.enough(before + bins[bin])) {
      before += bins[bin++];
    }
    found[0] = {bin, before};
  }
  __syncthreads();
  return found[0];
}

/// What is above `key` stays, and of what equals it the first `ties` by index. Key 0 drops nothing.
struct Cut {
  unsigned key;
  int ties;
  int equal;  ///< how many equal it
  int kept;   ///< above it, with the ties
};

/// The same in all threads.
template <class Measure>
__device__ Cut find_cut(const Row& row, const Bins& bins, Measure measure) {
  constexpr Cut kNone{0, 0, 0, 0};
  Interval keys = interval_of(row, [](float) { return true; });
  if (keys.lo > keys.hi) return kNone;

  // Evenly in the score.
  const float best = score_of(keys.hi);
  const float range = Lower{}(best - score_of(keys.lo), Measure::kRange);
  const float scale = range > 0.0f && range < INFINITY ? kBins / range : 0.0f;
  const auto bin_of = [&](float score) {
    const float at = (best - score) * scale;
    return at < kBins - 1 ? static_cast<int>(at) : kBins - 1;
  };
  bins.clear();
  row.each([&](int, float score, unsigned) {
    const std::uint64_t amount = measure.amount(score);
    if (amount != 0) bins.add(bin_of(score), amount);
  });
  Found found = find_bin(bins, 0, measure, true);
  if (found.bin == kBins) return kNone;
  keys = interval_of(row, [&](float score) { return bin_of(score) == found.bin; });

  // Evenly in the bits.
  while (keys.lo < keys.hi) {
    const int bits = static_cast<int>(std::bit_width(keys.hi - keys.lo));
    const int shift = bits > kBinBits ? bits - kBinBits : 0;
    bins.clear();
    row.each([&](int, float score, unsigned key) {
      if (key < keys.lo || key > keys.hi) return;
      const std::uint64_t amount = measure.amount(score);
      if (amount != 0) bins.add(static_cast<int>((keys.hi - key) >> shift), amount);
    });
    found = find_bin(bins, found.above, measure, false);
    if (found.bin == kBins) return kNone;
    keys.hi -= static_cast<unsigned>(found.bin) << shift;
    keys.lo = keys.hi - Lower{}(keys.hi - keys.lo, (1u << shift) - 1u);
  }
  if (keys.lo > keys.hi) return kNone;

  std::uint64_t counts = 0;  // above it, and equal to it
  row.each([&](int, float, unsigned key) {
    counts += key > keys.hi ? std::uint64_t{1} << 32 : std::uint64_t{key == keys.hi};
  });
  counts = reduce_block(counts, std::uint64_t{0}, Add{});
  const int equal = static_cast<int>(counts & 0xffffffffu);
  const std::uint64_t of_one = measure.amount(score_of(keys.hi));
  int ties = 0, most = equal;  // the first one too many is in [ties, most]
  while (ties < most) {
    const int middle = (ties + most) / 2;
    if (measure.enough(found.above + static_cast<std::uint64_t>(middle) * of_one)) {
      most = middle;
    } else {
      ties = middle + 1;
    }
  }
  return {keys.hi, ties, equal, static_cast<int>(counts >> 32) + ties};
}

/// The index behind the last tie that stays.
__device__ int end_of_ties(const Row& row, const Cut& cut) {
  if (cut.ties == cut.equal) return row.V;
  QUIRE_SHARED(int, end, 1);
  if (threadIdx.x == 0) end[0] = 0;
  int before = 0;
  for (int first = 0; first < row.V && before < cut.ties; first += static_cast<int>(blockDim.x)) {
    const int v = first + static_cast<int>(threadIdx.x);
    const bool equal = v < row.V && key_of(row.scores[v]) == cut.key;
    const int rank = before + block_sum_before(static_cast<int>(equal));
    if (equal && rank == cut.ties - 1) end[0] = v + 1;
    before += reduce_block(static_cast<int>(equal), 0, Add{});
  }
  __syncthreads();
  return end[0];
}

__device__ void apply(const Row& row, const Cut& cut) {
  const int end = end_of_ties(row, cut);
  row.each([&](int v, float, unsigned key) {
    if (key < cut.key || (key == cut.key && v >= end)) row.scores[v] = -INFINITY;
  });
}

struct WarpRows {
  float* logits;
  int V;
  bool held;  // the row fits into shared memory
  float temperature;
  std::uint64_t top_k;  // 0: off
  float top_p, min_p;
  double log_min_p;
  std::uint64_t least;
  double unit;
};

__global__ void __launch_bounds__(kMostThreads) warp_rows(WarpRows p) {
  QUIRE_SHARED(unsigned, low, kBins);
  QUIRE_SHARED(unsigned, high, kBins);
  const Bins bins{low, high};
  const int thread = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
  float* const logits = p.logits + std::int64_t{blockIdx.x} * p.V;
  // A thread reads and writes the same elements in every pass, so passes need no barrier.
  const Row row{p.held ? reinterpret_cast<float*>(QUIRE_DYNAMIC_SHARED) : logits, p.V};
#pragma unroll 8
  for (int v = thread; v < p.V; v += threads) {
    row.scores[v] = p.temperature == 1.0f ? logits[v] : logits[v] / p.temperature;
  }
  if (p.top_k > 0) {
    Cut cut = find_cut(row, bins, ByCount{p.top_k});
    cut.ties = cut.equal;  // what equals the k-th stays
    apply(row, cut);
  }
  if (p.top_p < 1.0f) {
    const Interval keys = interval_of(row, [](float) { return true; });
    Cut cut = find_cut(row, bins, ByProbability{score_of(keys.hi), p.unit, 1.0 - double{p.top_p}});
    if (cut.key != 0 && static_cast<std::uint64_t>(cut.kept) < p.least) {
      cut = find_cut(row, bins, ByCount{p.least});
    }
    apply(row, cut);
  }
  if (p.min_p > 0.0f) {
    const double best = score_of(interval_of(row, [](float) { return true; }).hi);
    const double limit = best + p.log_min_p;
    const auto below = [&](float score) {
      // Only next to the limit does it take an exponential to decide.
      const bool near = fabs(score - limit) < 1e-6 * (1.0 + fabs(limit));
      return near ? exp(score - best) < double{p.min_p} : score < limit;
    };
    int stay = 0;
    row.each([&](int, float score, unsigned) { stay += !below(score); });
    stay = reduce_block(stay, 0, Add{});
    if (static_cast<std::uint64_t>(stay) < p.least) {
      apply(row, find_cut(row, bins, ByCount{p.least}));
    } else {
      row.each([&](int v, float score, unsigned) {
        if (below(score)) row.scores[v] = -INFINITY;
      });
    }
  }
  if (!p.held) return;
#pragma unroll 8
  for (int v = thread; v < p.V; v += threads) logits[v] = row.scores[v];
}

}  // namespace

void CudaDevice::do_warp_logits(const WarpLogits& p) {
  const std::int64_t V = p.logits.shape()[1];
  const std::int64_t k = std::max(p.top_k, p.min_tokens_to_keep);
  // V of the largest weight, and half a unit of rounding each, stay below 2^63.
  const int bits = 62 - static_cast<int>(std::bit_width(static_cast<std::uint64_t>(V)));
  const std::size_t bytes = bytes_of_held_row(V, properties_);
  allow_shared(warp_rows, bytes, "warp_logits");
  QUIRE_LAUNCH(warp_rows, static_cast<unsigned>(p.logits.shape()[0]), threads_for(V, kMostThreads),
               bytes, stream_,
               WarpRows{.logits = p.logits.data<float>(),
                        .V = static_cast<int>(V),
                        .held = bytes > 0,
                        .temperature = p.temperature,
                        .top_k = p.top_k > 0 && k < V ? static_cast<std::uint64_t>(k) : 0,
                        .top_p = p.top_p,
                        .min_p = p.min_p,
                        .log_min_p = std::log(double{p.min_p}),
                        .least = static_cast<std::uint64_t>(p.min_tokens_to_keep),
                        .unit = std::ldexp(1.0, bits)});
}

}  // namespace quire::cuda

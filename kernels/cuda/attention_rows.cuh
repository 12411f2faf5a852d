// Attention with a warp for each row: any type, head size and alignment.
//
// A group of 8 or 16 lanes holds a row of keys (or values), 8 elements in each lane, so a warp
// takes 4 or 2 rows at once. Heads of more than 128 elements go through pieces of 128, and a grid
// dimension over the slices of the result does the scores again for each.
//
// Keys are taken in chunks of 64 that are counted from the query's first key, and chunks are joined
// in their order. So the bits do not change with what stands before the first key, nor with who
// computes the chunks: one warp after another, or all of them at once (attention_cached.cu).
#pragma once

#include "kernels/cuda/attention.cuh"

namespace quire::cuda {

inline constexpr int kChunk = 64;
inline constexpr int kPart = 8;  // elements of a row in a lane

/// How rows lie over the lanes of a warp.
template <class Element, bool kWholeRows, int kPieceElements, bool kManyPieces>
struct RowLayout {
  using T = Element;
  static constexpr bool kWhole = kWholeRows;
  static constexpr int kPiece = kPieceElements;
  static constexpr bool kMany = kManyPieces;
  static constexpr int kLanesOfRow = kPiece / kPart;
  static constexpr int kRowsAtOnce = kWarp / kLanesOfRow;
  static constexpr int kSteps = kChunk / kRowsAtOnce;

  __device__ __forceinline__ static int row(int lane) { return lane / kLanesOfRow; }
  __device__ __forceinline__ static int column(int lane) { return lane % kLanesOfRow * kPart; }
};

/// Calls work with the layout that fits.
template <class Work>
void with_layout(DType dtype, bool whole, int D, const Work& work) {
  dispatch(dtype, [&](auto zero) {
    using T = decltype(zero);
    if (D > 128) return work(RowLayout<T, false, 128, true>{});
    choose(whole, [&](auto w) {
      if (D <= 64) return work(RowLayout<T, w(), 64, false>{});
      work(RowLayout<T, w(), 128, false>{});
    });
  });
}
inline unsigned slices_of(int D) {
  return D > 128 ? blocks_of(D, 128) : 1;
}

/// A lane's elements of a row as they lie in memory, so that many loads are under way at once.
template <class Layout>
struct RowPart {
  using T = typename Layout::T;
  static constexpr int kPacks = kPart / kStep<T>;
  Pack<T> packs[kPacks] = {};

  /// From column d, where the row has D elements.
  __device__ __forceinline__ void load(const T* row, int d, int D) {
#pragma unroll
    for (int i = 0; i < kPacks; ++i) {
      if constexpr (Layout::kWhole) {
        if (d < D) packs[i] = *reinterpret_cast<const Pack<T>*>(row + d + i * kStep<T>);
      } else {
#pragma unroll
        for (int j = 0; j < kStep<T>; ++j) {
          if (d + i * kStep<T> + j < D) packs[i].element[j] = row[d + i * kStep<T> + j];
        }
      }
    }
  }
  __device__ __forceinline__ float at(int j) const {
    return widen(packs[j / kStep<T>].element[j % kStep<T>]);
  }
};

/// A row that stays while others pass by.
template <class Layout>
struct FixedRow {
  using T = typename Layout::T;
  const T* row;
  float part[kPart];

  __device__ __forceinline__ FixedRow(const T* row_, int lane, int D) : row(row_) {
    if constexpr (!Layout::kMany) load_row<Layout::kWhole>(row, Layout::column(lane), D, part);
  }

  /// The dot product with `other`, of which `loaded` is this lane's part (not where there are many
  /// pieces); all lanes of the group get it.
  __device__ __forceinline__ float dot(const T* other, const RowPart<Layout>& loaded, int lane,
                                       int D) const {
    float sum = 0.0f;
    if constexpr (Layout::kMany) {
      for (int d = Layout::column(lane); d < D; d += Layout::kPiece) {
        float a[kPart], b[kPart];
        load_row<Layout::kWhole>(row, d, D, a);
        load_row<Layout::kWhole>(other, d, D, b);
#pragma unroll
        for (int j = 0; j < kPart; ++j) sum = fmaf(a[j], b[j], sum);
      }
    } else {
#pragma unroll
      for (int j = 0; j < kPart; ++j) sum = fmaf(part[j], loaded.at(j), sum);
    }
    return reduce_neighbours<Layout::kLanesOfRow>(sum, Add{});
  }
  __device__ __forceinline__ float dot(const T* other, int lane, int D) const {
    RowPart<Layout> loaded;
    if constexpr (!Layout::kMany) loaded.load(other, Layout::column(lane), D);
    return dot(other, loaded, lane, D);
  }
};

/// sum += factor·row, over this lane's elements from column d.
template <class Layout>
__device__ __forceinline__ void add_row(float (&sum)[kPart], float factor,
                                        const typename Layout::T* row, int d, int D) {
  float value[kPart];
  load_row<Layout::kWhole>(row, d, D, value);
#pragma unroll
  for (int j = 0; j < kPart; ++j) sum[j] = fmaf(factor, value[j], sum[j]);
}

/// Adds up the groups of lanes and writes this lane's elements times `factor`.
template <class Layout>
__device__ __forceinline__ void store_sum(typename Layout::T* row, float (&sum)[kPart],
                                          float factor, int d, int D, int lane) {
#pragma unroll
  for (int j = 0; j < kPart; ++j) {
    sum[j] = factor * reduce_groups<Layout::kLanesOfRow>(sum[j], Add{});
  }
  if (lane < Layout::kLanesOfRow) store_row<Layout::kWhole>(row, d, D, sum);
}

/// Which of 64 elements in a row of the stream dropout keeps: bit i of the warp's word i % 4.
struct KeptOfChunk {
  unsigned votes[4] = {};
  unsigned offset = 0;

  /// Elements element … element + 63. Each block of four numbers is drawn once, by one lane.
  __device__ __forceinline__ void draw(const DropoutRule& rule, std::uint64_t element, int lane) {
    offset = static_cast<unsigned>(element % 4);
    const auto block = random_block(rule.key, element / 4 + static_cast<unsigned>(lane));
#pragma unroll
    for (int j = 0; j < 4; ++j) votes[j] = __ballot_sync(kWholeWarp, block[j] >= rule.threshold);
  }
  __device__ __forceinline__ bool operator[](int i) const {
    const unsigned at = offset + static_cast<unsigned>(i);
    const unsigned low = at & 1u ? votes[1] : votes[0], high = at & 1u ? votes[3] : votes[2];
    return ((at & 2u ? high : low) >> at / 4 & 1u) != 0;
  }
};

/// What some of the keys give a query: the largest score, the sum of exp2(score - largest), and the
/// sum of exp2(score - largest)·value, of which each lane has its 8 elements.
struct SoftmaxPart {
  float largest, sum;
  float out[kPart];

  __device__ __forceinline__ static SoftmaxPart nothing() { return {minus_infinity(), 0.0f, {}}; }
  /// Joins what the keys after these give. Joined to nothing it stays as it is, to the bit.
  __device__ __forceinline__ void join(const SoftmaxPart& next) {
    const float both = Largest{}(largest, next.largest);
    const float old_factor = exp2f(largest - both), next_factor = exp2f(next.largest - both);
    largest = both;
    sum = fmaf(sum, old_factor, next.sum * next_factor);
#pragma unroll
    for (int j = 0; j < kPart; ++j) {
      out[j] = fmaf(out[j], old_factor, next.out[j] * next_factor);
    }
  }
  /// The query's output and lse, from all its keys.
  template <class Layout>
  __device__ __forceinline__ void store(typename Layout::T* row, float* lse, int d, int D,
                                        int lane) {
    const bool sees_nothing = largest == minus_infinity() && sum == 0.0f;
#pragma unroll
    for (int j = 0; j < kPart; ++j) out[j] = sees_nothing ? 0.0f : out[j] / sum;
    if (lane < Layout::kLanesOfRow) store_row<Layout::kWhole>(row, d, D, out);
    if (lse != nullptr && lane == 0) {
      *lse = sees_nothing ? minus_infinity() : (largest + log2f(sum)) * kLn2;
    }
  }
};

/// Keys first … first + count - 1 of a query, 1 to 64; key(k) and value(k) are their rows.
/// `element` is the stream's number of key `first`. Where a step goes past the last key it takes
/// that one again and leaves it out, so that no load waits for a branch.
template <class Layout, class Key, class Value>
__device__ __forceinline__ SoftmaxPart attend_chunk(const FixedRow<Layout>& query, const Key& key,
                                                    const Value& value, int first, int count,
                                                    float scale_log2, const DropoutRule& dropout,
                                                    std::uint64_t element, int d, int D, int lane) {
  constexpr int kSteps = Layout::kSteps, kTogether = 8;  // loads under way
  const auto number = [&](int step) { return step * Layout::kRowsAtOnce + Layout::row(lane); };
  const auto row = [&](int step) { return first + min(number(step), count - 1); };
  SoftmaxPart part = SoftmaxPart::nothing();
  float score[kSteps];
#pragma unroll
  for (int begin = 0; begin < kSteps; begin += kTogether) {
    RowPart<Layout> keys[kTogether];
    if constexpr (!Layout::kMany) {
#pragma unroll
      for (int i = 0; i < kTogether; ++i) {
        keys[i].load(key(row(begin + i)), Layout::column(lane), D);
      }
    }
#pragma unroll
    for (int i = 0; i < kTogether; ++i) {
      const int step = begin + i;
      const float dot = query.dot(key(row(step)), keys[i], lane, D);
      score[step] = number(step) < count ? dot * scale_log2 : minus_infinity();
      part.largest = Largest{}(part.largest, score[step]);
    }
  }
  part.largest = reduce_groups<Layout::kLanesOfRow>(part.largest, Largest{});
#pragma unroll
  for (int step = 0; step < kSteps; ++step) {
    score[step] = number(step) < count ? exp2f(score[step] - part.largest) : 0.0f;
    part.sum += score[step];
  }
  part.sum = reduce_groups<Layout::kLanesOfRow>(part.sum, Add{});
  if (dropout.on) {
    KeptOfChunk kept;
    kept.draw(dropout, element, lane);
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      score[step] *= kept[number(step)] ? dropout.factor : 0.0f;
    }
  }
#pragma unroll
  for (int begin = 0; begin < kSteps; begin += kTogether) {
    RowPart<Layout> values[kTogether];
#pragma unroll
    for (int i = 0; i < kTogether; ++i) values[i].load(value(row(begin + i)), d, D);
#pragma unroll
    for (int i = 0; i < kTogether; ++i) {
#pragma unroll
      for (int j = 0; j < kPart; ++j) {
        part.out[j] = fmaf(score[begin + i], values[i].at(j), part.out[j]);
      }
    }
  }
#pragma unroll
  for (int j = 0; j < kPart; ++j) {
    part.out[j] = reduce_groups<Layout::kLanesOfRow>(part.out[j], Add{});
  }
  return part;
}

// ---------------------------------------------------------------- kernels

inline constexpr int kRowWarps = 4;  // of a block: a row each
inline constexpr int kRowThreads = kRowWarps * kWarp;

/// 4·D flops a key and 2·D elements read through the caches.
template <class Layout>
__global__ void __launch_bounds__(kRowThreads) attention_rows(AttentionProblem p) {
  using T = typename Layout::T;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const std::int64_t at = std::int64_t{blockIdx.x} * kRowWarps + threadIdx.x / kWarp;
  if (at >= std::int64_t{p.B} * p.H * p.T) return;
  const int t = static_cast<int>(at % p.T), bh = static_cast<int>(at / p.T);
  const int b = bh / p.H, h = bh % p.H;
  const int d = static_cast<int>(blockIdx.y) * Layout::kPiece + Layout::column(lane);
  const FixedRow<Layout> query(p.q.row<T>(b, h, t), lane, p.D);
  const T* keys = p.k.head<T>(b, h);
  const T* values = p.v.head<T>(b, h);
  const auto key = [&](int k) { return keys + std::int64_t{k} * p.k.of_row; };
  const auto value = [&](int k) { return values + std::int64_t{k} * p.v.of_row; };
  const int end = p.past_of(b) + t + 1;
  SoftmaxPart all = SoftmaxPart::nothing();
  for (int first = p.first(b, t); first < end; first += kChunk) {
    all.join(attend_chunk(query, key, value, first, min(kChunk, end - first), p.scale * kLog2e,
                          p.dropout, static_cast<std::uint64_t>(at) * p.T + first, d, p.D, lane));
  }
  T* out = static_cast<T*>(p.out) + ((std::int64_t{b} * p.T + t) * p.H + h) * p.D;
  all.store<Layout>(out, p.lse != nullptr && blockIdx.y == 0 ? p.lse + at : nullptr, d, p.D, lane);
}

// ---------------------------------------------------------------- gradients

/// Reads out and d_out once, row by row as they lie.
template <class Layout>
__global__ void __launch_bounds__(kRowThreads) attention_stats(BackwardProblem p) {
  using T = typename Layout::T;
  const int lane = static_cast<int>(threadIdx.x % kWarp);
  const std::int64_t at =
      (std::int64_t{blockIdx.x} * kRowWarps + threadIdx.x / kWarp) * Layout::kRowsAtOnce +
      Layout::row(lane);
  const bool given = at < std::int64_t{p.B} * p.T * p.H;  // the rest read a row of batch 0 in vain
  const int h = static_cast<int>(at % p.H), t = static_cast<int>(at / p.H % p.T);
  const int b = given ? static_cast<int>(at / p.H / p.T) : 0;
  const FixedRow<Layout> out(p.out.row<T>(b, h, t), lane, p.D);
  const float mean = out.dot(p.d_out.row<T>(b, h, t), lane, p.D);
  if (!given || lane % Layout::kLanesOfRow != 0) return;
  const int bh = b * p.H + h;
  const float lse = p.lse[std::int64_t{bh} * p.T + t];
  p.stats_of(bh)[t] = {lse == minus_infinity() ? -lse : lse * kLog2e, mean};
  if (t + 1 == p.T && p.T % 2 != 0) p.stats_of(bh)[p.T] = {0.0f, 0.0f};
}

/// Where a warp's row is.
struct Place {
  std::int64_t at;  // in [B, H, T]
  int b, h, t, lane;
  bool given;

  __device__ __forceinline__ explicit Place(const BackwardProblem& p)
      : at(std::int64_t{blockIdx.x} * (kRowWarps) + threadIdx.x / kWarp),
        b(static_cast<int>(at / p.T) / p.H),
        h(static_cast<int>(at / p.T) % p.H),
        t(static_cast<int>(at % p.T)),
        lane(static_cast<int>(threadIdx.x % kWarp)),
        given(at < std::int64_t{p.B} * p.H * p.T) {}
};

/// d_q of a query: 6·D flops a key.
template <class Layout>
__global__ void __launch_bounds__(kRowThreads) attention_d_query_rows(BackwardProblem p) {
  using T = typename Layout::T;
  const Place place(p);
  if (!place.given) return;
  const int b = place.b, h = place.h, t = place.t, lane = place.lane;
  const int d = static_cast<int>(blockIdx.y) * Layout::kPiece + Layout::column(lane);
  const FixedRow<Layout> query(p.q.row<T>(b, h, t), lane, p.D);
  const FixedRow<Layout> d_out(p.d_out.row<T>(b, h, t), lane, p.D);
  const T* keys = p.k.head<T>(b, h);
  const T* values = p.v.head<T>(b, h);
  const QueryStats stats = p.stats_of(b * p.H + h)[t];
  float d_query[kPart] = {};
  for (int first = p.first(b, t); first <= t; first += kChunk) {
    const std::uint64_t element = static_cast<std::uint64_t>(place.at) * p.T + first;
    KeptOfChunk kept;
    if (p.dropout.on) kept.draw(p.dropout, element, lane);
    for (int i = Layout::row(lane); i - Layout::row(lane) < kChunk; i += Layout::kRowsAtOnce) {
      const bool given = first + i <= t;
      const T* key = keys + std::int64_t{min(first + i, t)} * p.k.of_row;
      const T* value = values + std::int64_t{min(first + i, t)} * p.v.of_row;
      const float score = query.dot(key, lane, p.D) * (p.scale * kLog2e);
      const float d_p = d_out.dot(value, lane, p.D);
      if (!given) continue;
      const float factor = !p.dropout.on ? 1.0f : kept[i] ? p.dropout.factor : 0.0f;
      const float d_score = exp2f(score - stats.lse_log2) * (factor * d_p - stats.mean);
      add_row<Layout>(d_query, d_score, key, d, p.D);
    }
  }
  store_sum<Layout>(p.gradient<T>(0, b, h, t), d_query, p.scale, d, p.D, lane);
}

/// d_k and d_v of a key: 8·D flops a query. The queries that see it are a run that begins with its
/// own, as first_key never decreases.
template <class Layout>
__global__ void __launch_bounds__(kRowThreads) attention_d_key_rows(BackwardProblem p) {
  using T = typename Layout::T;
  const Place place(p);
  if (!place.given) return;
  const int b = place.b, h = place.h, k = place.t, lane = place.lane;
  const int d = static_cast<int>(blockIdx.y) * Layout::kPiece + Layout::column(lane);
  const FixedRow<Layout> key(p.k.row<T>(b, h, k), lane, p.D);
  const FixedRow<Layout> value(p.v.row<T>(b, h, k), lane, p.D);
  const T* queries = p.q.head<T>(b, h);
  const T* d_outs = p.d_out.head<T>(b, h);
  const std::int64_t bh = std::int64_t{b} * p.H + h;
  float d_key[kPart] = {}, d_value[kPart] = {};
  for (int first = k; first < p.T && p.first(b, first) <= k; first += Layout::kRowsAtOnce) {
    const int t = first + Layout::row(lane);
    const bool given = t < p.T && p.first(b, min(t, p.T - 1)) <= k;
    const T* query = queries + std::int64_t{min(t, p.T - 1)} * p.q.of_row;
    const T* d_out = d_outs + std::int64_t{min(t, p.T - 1)} * p.d_out.of_row;
    const float score = key.dot(query, lane, p.D) * (p.scale * kLog2e);
    const float d_p = value.dot(d_out, lane, p.D);
    if (!given) continue;
    const std::int64_t at = bh * p.T + t;
    float factor = 1.0f;
    if (p.dropout.on) {
      const bool keep = random_bits(p.dropout.key, static_cast<std::uint64_t>(at) * p.T + k) >=
                        p.dropout.threshold;
      factor = keep ? p.dropout.factor : 0.0f;
    }
    const QueryStats stats = p.stats_of(static_cast<int>(bh))[t];
    const float prob = exp2f(score - stats.lse_log2);
    add_row<Layout>(d_value, factor * prob, d_out, d, p.D);
    add_row<Layout>(d_key, prob * (factor * d_p - stats.mean), query, d, p.D);
  }
  store_sum<Layout>(p.gradient<T>(1, b, h, k), d_key, p.scale, d, p.D, lane);
  store_sum<Layout>(p.gradient<T>(2, b, h, k), d_value, 1.0f, d, p.D, lane);
}

}  // namespace quire::cuda

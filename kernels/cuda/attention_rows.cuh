// Attention with a warp for each row: any type, head size and alignment. What the tiles
// do not take: floats, and heads of odd sizes or places, whose kernels are kept small.
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
static_assert(kChunk == kCacheBlock);
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

/// Calls work with the layout that fits. Rows that are not whole are read where they are used, as
/// those of more than 128 elements are: what they cost is machine code more than time. They are
/// summed as whole rows are.
template <class Work>
void with_layout(DType dtype, bool whole, int D, const Work& work) {
  dispatch(dtype, [&]<class T>() {
    if (D > 128) return work(RowLayout<T, false, 128, true>{});
    choose(D <= 64, [&](auto narrow_head) {
      constexpr int kPiece = narrow_head() ? 64 : 128;
      if (whole) return work(RowLayout<T, true, kPiece, false>{});
      work(RowLayout<T, false, kPiece, true>{});
    });
  });
}
/// The same where whole rows of 16 bits are the matrix instructions' business.
template <class Work>
void with_plain_layout(DType dtype, bool whole, int D, const Work& work) {
  with_layout(dtype, whole && dtype == DType::f32, D, [&](auto layout) {
    using Layout = decltype(layout);
    if constexpr (!Layout::kWhole || sizeof(typename Layout::T) == 4) work(layout);
  });
}
inline unsigned slices_of(int D) {
  return D > 128 ? blocks_of(D, 128) : 1;
}

/// A lane's elements of a row from column d on, as they lie in memory. Nothing where there are many
/// pieces: they are read where they are used.
template <class Layout>
using RowPart = Packs<typename Layout::T, kPart>;
template <class Layout>
__device__ __forceinline__ RowPart<Layout> fetch_part(const typename Layout::T* row, int d, int D) {
  if constexpr (Layout::kMany) return {};
  return fetch<Layout::kWhole, kPart>(row, d, D);
}

/// A row that stays while others pass by.
template <class Layout>
struct FixedRow {
  using T = typename Layout::T;
  const T* row;
  float part[kPart];

  __device__ __forceinline__ FixedRow(const T* row_, int lane, int D) : row(row_) {
    if constexpr (!Layout::kMany) load_row<Layout::kWhole>(row, Layout::column(lane), D, part);
  }
  __device__ __forceinline__ FixedRow(const T* row_, const RowPart<Layout>& loaded, int lane, int D)
      : row(row_) {
    if constexpr (!Layout::kMany) widen<Layout::kWhole>(loaded, Layout::column(lane), D, part);
  }

  /// The dot product with `other`, of which `loaded` is this lane's part (not where there are many
  /// pieces); all lanes of the group get it.
  __device__ __forceinline__ float dot(const T* other, const RowPart<Layout>& loaded, int lane,
                                       int D) const {
    float sum = 0.0f;
    if constexpr (Layout::kMany) {
#pragma unroll 1
      for (int d = Layout::column(lane); d < D; d += Layout::kPiece) {
        const auto of_row = fetch<Layout::kWhole, kPart>(row, d, D);
        const auto of_other = fetch<Layout::kWhole, kPart>(other, d, D);
        float a[kPart], b[kPart];
        widen<Layout::kWhole>(of_row, d, D, a);
        widen<Layout::kWhole>(of_other, d, D, b);
#pragma unroll
        for (int j = 0; j < kPart; ++j) sum = fmaf(a[j], b[j], sum);
      }
    } else {
      float b[kPart];
      widen<Layout::kWhole>(loaded, Layout::column(lane), D, b);
#pragma unroll
      for (int j = 0; j < kPart; ++j) sum = fmaf(part[j], b[j], sum);
    }
    return reduce_neighbours<Layout::kLanesOfRow>(sum, Add{});
  }
};

/// sum += factor·row, over this lane's elements from column d on, which `loaded` are unless there
/// are many pieces.
template <class Layout>
__device__ __forceinline__ void add_row(float (&sum)[kPart], float factor,
                                        const typename Layout::T* row,
                                        const RowPart<Layout>& loaded, int d, int D) {
  float value[kPart];
  if constexpr (Layout::kMany) {
    load_row<Layout::kWhole>(row, d, D, value);
  } else {
    widen(loaded, value);  // what lies beyond the end is not stored
  }
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

/// Keys 0 … count - 1 of a query, 1 to 64; key(k) and value(k) are their rows.
/// `element` is the stream's number of key 0. Where a step goes past the last key it takes
/// that one again and leaves it out, so that no load waits for a branch. Steps are unrolled as far
/// as loads are to be under way; each lane keeps the scores of two of its group's.
template <class Layout, class Key, class Value>
__device__ __forceinline__ SoftmaxPart attend_chunk(const FixedRow<Layout>& query, const Key& key,
                                                    const Value& value, int count, float scale_log2,
                                                    const DropoutRule& dropout,
                                                    std::uint64_t element, int d, int D, int lane) {
  constexpr int kLanes = Layout::kLanesOfRow;
  constexpr int kTogether = Layout::kWhole ? kStep<typename Layout::T> : 1;  // 8 loads of 16 bytes
  static_assert(Layout::kSteps == 2 * kLanes && kLanes % kTogether == 0);
  const auto number = [&](int step) { return step * Layout::kRowsAtOnce + Layout::row(lane); };
  const auto row = [&](int step) { return min(number(step), count - 1); };
  const int steps = (count + Layout::kRowsAtOnce - 1) / Layout::kRowsAtOnce;
  const int own = lane % kLanes;  // step; and kLanes more
  SoftmaxPart part = SoftmaxPart::nothing();
  float low = minus_infinity(), high = minus_infinity();
#pragma unroll 1
  for (int begin = 0; begin < steps; begin += kTogether) {
    RowPart<Layout> keys[kTogether];
#pragma unroll
    for (int i = 0; i < kTogether; ++i) {
      keys[i] = fetch_part<Layout>(key(row(begin + i)), Layout::column(lane), D);
    }
#pragma unroll
    for (int i = 0; i < kTogether; ++i) {
      const int step = begin + i;
      const float dot = query.dot(key(row(step)), keys[i], lane, D);
      const float score = number(step) < count ? dot * scale_log2 : minus_infinity();
      part.largest = Largest{}(part.largest, score);
      if (step == own) low = score;
      if (step == own + kLanes) high = score;
    }
  }
  part.largest = reduce_groups<kLanes>(part.largest, Largest{});
  low = number(own) < count ? exp2f(low - part.largest) : 0.0f;
  high = number(own + kLanes) < count ? exp2f(high - part.largest) : 0.0f;
  KeptOfChunk kept;
  if (dropout.on) kept.draw(dropout, element, lane);
#pragma unroll 1
  for (int begin = 0; begin < steps; begin += kTogether) {
    Packs<typename Layout::T, kPart> values[kTogether];
#pragma unroll
    for (int i = 0; i < kTogether; ++i) {
      values[i] = fetch<Layout::kWhole, kPart>(value(row(begin + i)), d, D);
    }
#pragma unroll
    for (int i = 0; i < kTogether; ++i) {
      const int step = begin + i;
      float factor =
          __shfl_sync(kWholeWarp, begin < kLanes ? low : high, lane - own + step % kLanes);
      part.sum += factor;
      if (dropout.on) factor *= kept[number(step)] ? dropout.factor : 0.0f;
      float of_value[kPart];
      widen(values[i], of_value);
#pragma unroll
      for (int j = 0; j < kPart; ++j) part.out[j] = fmaf(factor, of_value[j], part.out[j]);
    }
  }
  part.sum = reduce_groups<kLanes>(part.sum, Add{});
#pragma unroll
  for (int j = 0; j < kPart; ++j) part.out[j] = reduce_groups<kLanes>(part.out[j], Add{});
  return part;
}

// ---------------------------------------------------------------- kernels

inline constexpr int kRowWarps = 4;  // of a block: a row each
inline constexpr int kRowThreads = kRowWarps * kWarp;

/// Pairs of rows that the gradients' kernels have under way for a group of lanes.
template <class Layout>
inline constexpr int kPairsTogether = Layout::kWhole ? 4 : 1;

/// Where a warp's row is. There are fewer than 2^31 of them: 2^31 heads of 64 elements in 16 bits
/// are 275 GB; numbers of 64 bits would divide in 70 instructions each.
struct Place {
  unsigned at;  // in [B, H, T]
  int b, h, t, lane;
  bool given;

  template <class Problem>
  __device__ __forceinline__ explicit Place(const Problem& p)
      : at(blockIdx.x * kRowWarps + threadIdx.x / kWarp),
        lane(static_cast<int>(threadIdx.x % kWarp)) {
    const unsigned T = static_cast<unsigned>(p.T), H = static_cast<unsigned>(p.H);
    const unsigned bh = at / T;
    t = static_cast<int>(at % T);
    b = static_cast<int>(bh / H);
    h = static_cast<int>(bh % H);
    given = b < p.B;
  }
};

/// 4·D flops a key and 2·D elements read through the caches.
template <class Layout>
__global__ void __launch_bounds__(kRowThreads, 4) attention_rows(AttentionProblem p) {
  using T = typename Layout::T;
  const Place place(p);
  if (!place.given) return;
  const int b = place.b, h = place.h, t = place.t, lane = place.lane;
  const int d = static_cast<int>(blockIdx.y) * Layout::kPiece + Layout::column(lane);
  const FixedRow<Layout> query(p.q.row<T>(b, h, t), lane, p.D);
  const int end = p.past_of(b) + t + 1;
  SoftmaxPart all = SoftmaxPart::nothing();
  for (int first = p.first(b, t); first < end; first += kChunk) {
    const T* keys = p.k.row<T>(b, h, p.row_of(b, first));
    const T* values = p.v.row<T>(b, h, p.row_of(b, first));
    const auto key = [&](int k) { return keys + std::int64_t{k} * p.k.of_row; };
    const auto value = [&](int k) { return values + std::int64_t{k} * p.v.of_row; };
    all.join(attend_chunk(query, key, value, min(kChunk, end - first), p.scale * kLog2e, p.dropout,
                          std::uint64_t{place.at} * p.T + first, d, p.D, lane));
  }
  T* out = static_cast<T*>(p.out) + ((std::int64_t{b} * p.T + t) * p.H + h) * p.D;
  all.store<Layout>(out, p.lse != nullptr && blockIdx.y == 0 ? p.lse + place.at : nullptr, d, p.D,
                    lane);
}

// ---------------------------------------------------------------- gradients

/// Row `at` of out and d_out in [B, T, H], on its way.
template <class Layout>
struct OutputRow {
  using T = typename Layout::T;
  int bh, t;
  bool given;  // else it is a row of batch 0, read in vain
  const T *out, *d_out;
  RowPart<Layout> out_part, d_out_part;
  float lse;

  __device__ __forceinline__ OutputRow(const BackwardProblem& p, unsigned at, int lane) {
    const unsigned H = static_cast<unsigned>(p.H), bt = at / H;
    const int h = static_cast<int>(at % H), row = static_cast<int>(bt / p.T);
    t = static_cast<int>(bt % p.T);
    given = row < p.B;
    const int b = given ? row : 0;
    bh = b * p.H + h;
    out = p.out.row<T>(b, h, t);
    d_out = p.d_out.row<T>(b, h, t);
    out_part = fetch_part<Layout>(out, Layout::column(lane), p.D);
    d_out_part = fetch_part<Layout>(d_out, Layout::column(lane), p.D);
    lse = p.lse[std::int64_t{bh} * p.T + t];
  }
  __device__ __forceinline__ void finish(const BackwardProblem& p, int lane) const {
    const FixedRow<Layout> fixed(out, out_part, lane, p.D);
    const float mean = fixed.dot(d_out, d_out_part, lane, p.D);
    if (!given || lane % Layout::kLanesOfRow != 0) return;
    QueryStats* stats = p.stats_of(bh);
    stats[t] = {lse == minus_infinity() ? -lse : lse * kLog2e, mean};
    if (t + 1 == p.T && p.T % 2 != 0) stats[p.T] = {0.0f, 0.0f};
  }
};

/// Reads out and d_out once, row by row as they lie, two rows of each at a time.
inline constexpr int kStatsTogether = 2;
template <class Layout>
__global__ void __launch_bounds__(kRowThreads) attention_stats(BackwardProblem p) {
  const int lane = static_cast<int>(threadIdx.x % kWarp);
  const unsigned at =
      (blockIdx.x * kRowWarps + threadIdx.x / kWarp) * kStatsTogether * Layout::kRowsAtOnce +
      Layout::row(lane);
  const OutputRow<Layout> one(p, at, lane), other(p, at + Layout::kRowsAtOnce, lane);
  one.finish(p, lane);
  other.finish(p, lane);
}

/// d_q of a query: 6·D flops a key.
/// (Left alone, ptxas takes 56 registers and spills one of them.)
template <class Layout>
__global__ void __launch_bounds__(kRowThreads, 3) attention_d_query_rows(BackwardProblem p) {
  using T = typename Layout::T;
  constexpr int kTogether = kPairsTogether<Layout>;
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
    KeptOfChunk kept;
    if (p.dropout.on) kept.draw(p.dropout, std::uint64_t{place.at} * p.T + first, lane);
    const int count = min(kChunk, t + 1 - first);
#pragma unroll 1
    for (int begin = 0; begin < count; begin += kTogether * Layout::kRowsAtOnce) {
      RowPart<Layout> key_part[kTogether], value_part[kTogether];
      const auto number = [&](int i) {
        return begin + i * Layout::kRowsAtOnce + Layout::row(lane);
      };
      const auto key = [&](int i) {
        return keys + std::int64_t{first + min(number(i), count - 1)} * p.k.of_row;
      };
      const auto value = [&](int i) {
        return values + std::int64_t{first + min(number(i), count - 1)} * p.v.of_row;
      };
#pragma unroll
      for (int i = 0; i < kTogether; ++i) {
        key_part[i] = fetch_part<Layout>(key(i), Layout::column(lane), p.D);
        value_part[i] = fetch_part<Layout>(value(i), Layout::column(lane), p.D);
      }
#pragma unroll
      for (int i = 0; i < kTogether; ++i) {
        const float score = query.dot(key(i), key_part[i], lane, p.D) * (p.scale * kLog2e);
        const float d_p = d_out.dot(value(i), value_part[i], lane, p.D);
        if (number(i) >= count) continue;
        const float factor = !p.dropout.on ? 1.0f : kept[number(i)] ? p.dropout.factor : 0.0f;
        const float d_score = exp2f(score - stats.lse_log2) * (factor * d_p - stats.mean);
        add_row<Layout>(d_query, d_score, key(i), key_part[i], d, p.D);
      }
    }
  }
  store_sum<Layout>(p.gradient<T>(0, b, h, t), d_query, p.scale, d, p.D, lane);
}

/// d_k and d_v of a key: 8·D flops a query. The queries that see it are a run that begins with its
/// own, as first_key never decreases.
template <class Layout>
__global__ void __launch_bounds__(kRowThreads) attention_d_key_rows(BackwardProblem p) {
  using T = typename Layout::T;
  constexpr int kTogether = kPairsTogether<Layout>;
  const Place place(p);
  if (!place.given) return;
  const int b = place.b, h = place.h, k = place.t, lane = place.lane;
  const int d = static_cast<int>(blockIdx.y) * Layout::kPiece + Layout::column(lane);
  const FixedRow<Layout> key(p.k.row<T>(b, h, k), lane, p.D);
  const FixedRow<Layout> value(p.v.row<T>(b, h, k), lane, p.D);
  const T* queries = p.q.head<T>(b, h);
  const T* d_outs = p.d_out.head<T>(b, h);
  const QueryStats* stats = p.stats_of(b * p.H + h);
  const std::uint64_t of_head = std::uint64_t{place.at - static_cast<unsigned>(k)};
  float d_key[kPart] = {}, d_value[kPart] = {};
#pragma unroll 1
  for (int first = k; first < p.T && p.first(b, first) <= k;
       first += kTogether * Layout::kRowsAtOnce) {
    RowPart<Layout> query_part[kTogether], d_out_part[kTogether];
    const auto number = [&](int i) { return first + i * Layout::kRowsAtOnce + Layout::row(lane); };
    const auto query = [&](int i) {
      return queries + std::int64_t{min(number(i), p.T - 1)} * p.q.of_row;
    };
    const auto d_out = [&](int i) {
      return d_outs + std::int64_t{min(number(i), p.T - 1)} * p.d_out.of_row;
    };
#pragma unroll
    for (int i = 0; i < kTogether; ++i) {
      query_part[i] = fetch_part<Layout>(query(i), Layout::column(lane), p.D);
      d_out_part[i] = fetch_part<Layout>(d_out(i), Layout::column(lane), p.D);
    }
#pragma unroll
    for (int i = 0; i < kTogether; ++i) {
      const int t = number(i);
      const float score = key.dot(query(i), query_part[i], lane, p.D) * (p.scale * kLog2e);
      const float d_p = value.dot(d_out(i), d_out_part[i], lane, p.D);
      if (t >= p.T || p.first(b, t) > k) continue;
      float factor = 1.0f;
      if (p.dropout.on) {
        const bool keep =
            random_bits(p.dropout.key, (of_head + t) * p.T + k) >= p.dropout.threshold;
        factor = keep ? p.dropout.factor : 0.0f;
      }
      const float prob = exp2f(score - stats[t].lse_log2);
      add_row<Layout>(d_value, factor * prob, d_out(i), d_out_part[i], d, p.D);
      add_row<Layout>(d_key, prob * (factor * d_p - stats[t].mean), query(i), query_part[i], d,
                      p.D);
    }
  }
  store_sum<Layout>(p.gradient<T>(1, b, h, k), d_key, p.scale, d, p.D, lane);
  store_sum<Layout>(p.gradient<T>(2, b, h, k), d_value, 1.0f, d, p.D, lane);
}

}  // namespace quire::cuda

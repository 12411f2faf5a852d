// Gradients of causal self-attention, without atomics: what is summed over queries (d_k, d_v) and
// what is summed over keys (d_q) have a kernel each, and both compute the probabilities again.
//
// The fast path takes the scores where they are needed, in registers. For d_k and d_v they are
// computed transposed, keys by queries, so that a result is the next product's operand: a block has
// 128 keys, 32 a warp, and tiles of 64 queries pass by. For d_q a block has 128 queries and tiles
// of 64 keys pass by, as in the forward pass. Products: 4 for the first and 3 for the second, where
// one kernel with atomic additions would need 5; partial sums of d_q, in memory, would cost more
// than the two products (900 MB written and read at the shape below, against 100 GFLOP).
//
// Traffic is 13·B·T·C elements, 6 of them for d_k and d_v, 5 for d_q and 2 for the statistics of
// the queries; flops 7·B·T²·C. At B = 64, T = 1024, H = 12, D = 64 in bf16: 1.3 GB (390 µs at
// 3.35 TB/s) and 361 GFLOP, 1.3 ms at 280 TFLOP/s, which are 200 TFLOP/s
// where 5 products are counted.
#include "kernels/cuda/attention_rows.cuh"
#include "kernels/cuda/attention_tiles.cuh"
#include "kernels/cuda/device.h"

namespace quire::cuda {
namespace {

constexpr int kThreads = 128;

// ---------------------------------------------------------------- tiles

/// Blocks of 64·kBlocks rows that stay, 16·kBlocks for each of four warps; kMoving rows pass by in
/// a tile, and are worked on kAtOnce at a time.
template <class Element, int kColumns_, int kBlocks_, int kMoving_, int kAtOnce_>
struct BackwardShape {
  using T = Element;
  static constexpr int kColumns = kColumns_;  // D, filled up with zeros
  static constexpr int kBlocks = kBlocks_;
  static constexpr int kMoving = kMoving_;
  static constexpr int kAtOnce = kAtOnce_;
  static constexpr int kWarpRows = 16 * kBlocks;
  static constexpr int kRows = 4 * kWarpRows;
  static constexpr int kBlocksAtOnce = kBlocks == 1 && kColumns == 64 ? 3 : 2;  // on an SM
  using Tile = SharedTile<T, kColumns>;
  static constexpr int kStatsBytes = kMoving * static_cast<int>(sizeof(QueryStats));
  static constexpr int kSharedBytes =
      2 * Tile::bytes(kRows) + 4 * Tile::bytes(kMoving) + 2 * kStatsBytes;
};

/// Two tiles that stay and two pairs that pass by, then room for the statistics of two tiles.
template <class Shape>
struct BackwardTiles {
  using T = typename Shape::T;
  using Tile = typename Shape::Tile;
  std::byte* memory;

  __device__ __forceinline__ Tile fixed(int which) const {
    return {reinterpret_cast<T*>(memory + which * Tile::bytes(Shape::kRows))};
  }
  __device__ __forceinline__ Tile moving(int which, int stage) const {
    return {reinterpret_cast<T*>(memory + 2 * Tile::bytes(Shape::kRows) +
                                 (2 * stage + which) * Tile::bytes(Shape::kMoving))};
  }
  __device__ __forceinline__ QueryStats* stats(int stage) const {
    return reinterpret_cast<QueryStats*>(memory + 2 * Tile::bytes(Shape::kRows) +
                                         4 * Tile::bytes(Shape::kMoving) +
                                         stage * Shape::kStatsBytes);
  }
};

/// Which of a warp's keys dropout keeps for the lane's queries, a bit for each key: `element` is
/// that of the first key and query lane.
template <class Shape>
__device__ __forceinline__ void keep_queries(unsigned (&kept)[Shape::kAtOnce / 8][2],
                                             const DropoutRule& rule, std::uint64_t element,
                                             int lane) {
  static_assert(Shape::kAtOnce == kWarp);
  const unsigned of_query = kept_of_lane<Shape::kWarpRows>(rule, element);
#pragma unroll
  for (int n = 0; n < Shape::kAtOnce / 8; ++n) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      kept[n][i] = __shfl_sync(kWholeWarp, of_query, 8 * n + lane % 4 * 2 + i);
    }
  }
}

/// mask_queries() of transposed scores, keys by queries.
template <int kBlocks, int kCountBlocks>
__device__ __forceinline__ void mask_keys(float (&scores)[kBlocks][kCountBlocks][4],
                                          const BackwardProblem& p, int b, int t_low, int k_low,
                                          int lane) {
#pragma unroll
  for (int n = 0; n < kCountBlocks; ++n) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int t = t_low + 8 * n + lane % 4 * 2 + i;
      const int first = p.first(b, min(t, p.T - 1));
#pragma unroll
      for (int m = 0; m < kBlocks; ++m) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const int k = k_low + 16 * m + 8 * half + lane / 4;
          if (k > t || k < first) scores[m][n][2 * half + i] = minus_infinity();
        }
      }
    }
  }
}

/// Turns transposed scores into probabilities p (times dropout's factor), and d_p into
/// d_score = p·(d_p - mean); `stats` are the queries'.
template <class Shape, bool kDropout>
__device__ __forceinline__ void differentiate_keys(
    float (&prob)[Shape::kBlocks][Shape::kAtOnce / 8][4],
    float (&d_score)[Shape::kBlocks][Shape::kAtOnce / 8][4],
    const unsigned (&kept)[Shape::kAtOnce / 8][2], const QueryStats* stats,
    const BackwardProblem& p, int lane) {
  constexpr int kBlocks = Shape::kBlocks, kAtOnce = Shape::kAtOnce;
  const float scale_log2 = p.scale * kLog2e;
#pragma unroll
  for (int n = 0; n < kAtOnce / 8; ++n) {
    // The lane's queries are this one and the next.
    const float4 of_queries = *reinterpret_cast<const float4*>(stats + 8 * n + lane % 4 * 2);
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const float lse_log2 = i == 0 ? of_queries.x : of_queries.z;
      const float mean = i == 0 ? of_queries.y : of_queries.w;
#pragma unroll
      for (int m = 0; m < kBlocks; ++m) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          float& score = prob[m][n][2 * half + i];
          float& gradient = d_score[m][n][2 * half + i];
          float factor = 1.0f;
          if constexpr (kDropout) {
            const int row = 16 * m + 8 * half + lane / 4;
            factor = (kept[n][i] >> row & 1u) != 0 ? p.dropout.factor : 0.0f;
          }
          const float exact = fast_exp2(fmaf(score, scale_log2, -lse_log2));
          gradient = exact * fmaf(factor, gradient, -mean);
          score = exact * factor;
        }
      }
    }
  }
}

/// d_k and d_v of a warp's keys k_low … by way of its part of shared memory, which holds the keys
/// and values that nobody wants any more.
template <class Shape>
__device__ __forceinline__ void write_gradients(
    const typename Shape::Tile& own_keys, const typename Shape::Tile& own_values,
    const float (&d_key)[Shape::kBlocks][Shape::kColumns / 8][4],
    const float (&d_value)[Shape::kBlocks][Shape::kColumns / 8][4], const BackwardProblem& p,
    int bh, int k_low, int lane) {
  using T = typename Shape::T;
  const int b = bh / p.H, h = bh % p.H;
  __syncwarp();
#pragma unroll
  for (int m = 0; m < Shape::kBlocks; ++m) {
    own_keys.put(16 * m, d_key[m], p.scale, p.scale, lane);
    own_values.put(16 * m, d_value[m], 1.0f, 1.0f, lane);
  }
  __syncwarp();
  const int count = min(Shape::kWarpRows, p.T - k_low);
  own_keys.write_rows(p.gradient<T>(1, b, h, k_low), 3 * p.H * p.D, count, p.D, lane);
  own_values.write_rows(p.gradient<T>(2, b, h, k_low), 3 * p.H * p.D, count, p.D, lane);
}

/// d_k and d_v of a block of keys.
template <class Shape, bool kDropout>
__global__ void __launch_bounds__(kThreads, Shape::kBlocksAtOnce)
    attention_d_key_tiles(BackwardProblem p) {
  using T = typename Shape::T;
  using Tile = typename Shape::Tile;
  constexpr int kBlocks = Shape::kBlocks, kAtOnce = Shape::kAtOnce, kMoving = Shape::kMoving;
  const int thread = static_cast<int>(threadIdx.x);
  const int warp = static_cast<int>(threadIdx.x / kWarp);
  const int lane = static_cast<int>(threadIdx.x % kWarp);
  // The first keys have the most queries: they go first.
  const int blocks = (p.T + Shape::kRows - 1) / Shape::kRows;
  const int bh = static_cast<int>(blockIdx.x) / blocks;
  const int k0 = static_cast<int>(blockIdx.x) % blocks * Shape::kRows;
  const int b = bh / p.H, h = bh % p.H;
  const BackwardTiles<Shape> tiles{QUIRE_DYNAMIC_SHARED};
  using Copies = TileCopies<Tile, kThreads>;
  Copies queries(p.q.head<T>(b, h), p.q.of_row, k0, p.D, thread);
  Copies d_outs(p.d_out.head<T>(b, h), p.d_out.of_row, k0, p.D, thread);
  const QueryStats* stats = p.stats_of(bh);
  const auto start_tile = [&](int t0, int stage) {  // tile after tile
    queries.template start<kMoving>(tiles.moving(0, stage), p.T);
    d_outs.template start<kMoving>(tiles.moving(1, stage), p.T);
    if (thread < kMoving / 2) {
      const bool given = t0 + 2 * thread < p.T;
      copy_async(tiles.stats(stage) + 2 * thread, stats + (given ? t0 + 2 * thread : 0), given);
    }
    commit_copies();
  };
  Copies(p.k.head<T>(b, h), p.k.of_row, k0, p.D, thread)
      .template start<Shape::kRows>(tiles.fixed(0), p.T);
  Copies(p.v.head<T>(b, h), p.v.of_row, k0, p.D, thread)
      .template start<Shape::kRows>(tiles.fixed(1), p.T);
  start_tile(k0, 0);

  const int warp_row = warp * Shape::kWarpRows, k_low = k0 + warp_row;
  const int k_high = k_low + Shape::kWarpRows - 1;
  const Tile own_keys = tiles.fixed(0).from(warp_row), own_values = tiles.fixed(1).from(warp_row);
  const RowsInTile<Shape> key{own_keys, lane}, value{own_values, lane};
  float d_key[kBlocks][Shape::kColumns / 8][4] = {};
  float d_value[kBlocks][Shape::kColumns / 8][4] = {};
  // first_key never decreases, so the queries that see the block's keys are a run.
  const auto seen_by = [&](int t) { return t < p.T && p.first(b, t) < k0 + Shape::kRows; };
  int stage = 0;
  bool more = true;
  for (int t0 = k0; more; t0 += kMoving, stage ^= 1) {
    wait_for_copies<0>();
    __syncthreads();  // this tile is here, and all warps are done with the other one
    more = seen_by(t0 + kMoving);
    if (more) start_tile(t0 + kMoving, stage ^ 1);
#pragma unroll 1
    for (int part = 0; part < kMoving; part += kAtOnce) {
      const Tile query = tiles.moving(0, stage).from(part);
      const Tile d_out = tiles.moving(1, stage).from(part);
      const int t_low = t0 + part, t_high = min(t_low + kAtOnce, p.T) - 1;
      if (t_high < k_low || k_low >= p.T || p.first(b, t_low) > k_high) continue;
      unsigned kept[kAtOnce / 8][2];
      if constexpr (kDropout) {
        keep_queries<Shape>(kept, p.dropout,
                            (static_cast<std::uint64_t>(bh) * p.T + t_low + lane) * p.T + k_low,
                            lane);
      }
      float prob[kBlocks][kAtOnce / 8][4], d_score[kBlocks][kAtOnce / 8][4];
      multiply_rows<Shape>(prob, key, query, lane);
      // Masked here, before the second product is in registers too.
      if (t_low < k_high || p.first(b, t_high) > k_low) {
        mask_keys(prob, p, b, t_low, k_low, lane);
      }
      multiply_rows<Shape>(d_score, value, d_out, lane);
      differentiate_keys<Shape, kDropout>(prob, d_score, kept, tiles.stats(stage) + part, p, lane);
      add_products<T>(d_value, prob, d_out, lane);
      add_products<T>(d_key, d_score, query, lane);
    }
  }
  if (k_low >= p.T) return;
  write_gradients<Shape>(own_keys, own_values, d_key, d_value, p, bh, k_low, lane);
}

/// Turns d_p of a warp's queries and the keys from k_low on into d_score = p·(d_p - mean), with the
/// probabilities p = exp2(scale·score - lse) computed again.
template <class Shape, bool kDropout>
__device__ __forceinline__ void differentiate_queries(
    float (&d_score)[Shape::kBlocks][Shape::kAtOnce / 8][4],
    const float (&score)[Shape::kBlocks][Shape::kAtOnce / 8][4],
    const QueryStats (&stats)[Shape::kBlocks][2], const BackwardProblem& p, int bh, int t_low,
    int k_low, int lane) {
  constexpr int kBlocks = Shape::kBlocks, kAtOnce = Shape::kAtOnce;
  const float scale_log2 = p.scale * kLog2e;
#pragma unroll
  for (int m = 0; m < kBlocks; ++m) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const QueryStats& of_query = stats[m][half];
      const auto gradient = [&](int n, int i, float factor) {
        float& d_p = d_score[m][n][2 * half + i];
        const float prob =
            fast_exp2(fmaf(score[m][n][2 * half + i], scale_log2, -of_query.lse_log2));
        d_p = prob * fmaf(factor, d_p, -of_query.mean);
      };
      if constexpr (kDropout) {
        const int t = t_low + 16 * m + 8 * half + lane / 4;
        const KeptOfRow<kAtOnce> kept(
            p.dropout, (static_cast<std::uint64_t>(bh) * p.T + t) * p.T + k_low, lane);
#pragma unroll
        for (int n = 0; n < kAtOnce / 8; ++n) {
          gradient(n, 0, kept.at(n, 0, lane) ? p.dropout.factor : 0.0f);
          gradient(n, 1, kept.at(n, 1, lane) ? p.dropout.factor : 0.0f);
        }
      } else {
#pragma unroll
        for (int n = 0; n < kAtOnce / 8; ++n) {
          gradient(n, 0, 1.0f);
          gradient(n, 1, 1.0f);
        }
      }
    }
  }
}

/// d_q of a block of queries.
template <class Shape, bool kDropout>
__global__ void __launch_bounds__(kThreads, Shape::kBlocksAtOnce)
    attention_d_query_tiles(BackwardProblem p) {
  using T = typename Shape::T;
  using Tile = typename Shape::Tile;
  constexpr int kBlocks = Shape::kBlocks, kAtOnce = Shape::kAtOnce, kMoving = Shape::kMoving;
  const int thread = static_cast<int>(threadIdx.x);
  const int warp = static_cast<int>(threadIdx.x / kWarp);
  const int lane = static_cast<int>(threadIdx.x % kWarp);
  const int blocks = (p.T + Shape::kRows - 1) / Shape::kRows;
  const int bh = static_cast<int>(blockIdx.x) / blocks;
  const int t0 = (blocks - 1 - static_cast<int>(blockIdx.x) % blocks) * Shape::kRows;
  const int b = bh / p.H, h = bh % p.H;
  const BackwardTiles<Shape> tiles{QUIRE_DYNAMIC_SHARED};
  const int first_of_block = p.first(b, t0), end_of_block = min(t0 + Shape::kRows, p.T);
  using Copies = TileCopies<Tile, kThreads>;
  Copies keys(p.k.head<T>(b, h), p.k.of_row, first_of_block, p.D, thread);
  Copies values(p.v.head<T>(b, h), p.v.of_row, first_of_block, p.D, thread);
  const auto start_next_tile = [&](int stage) {
    keys.template start<kMoving>(tiles.moving(0, stage), p.T);
    values.template start<kMoving>(tiles.moving(1, stage), p.T);
    commit_copies();
  };
  Copies(p.q.head<T>(b, h), p.q.of_row, t0, p.D, thread)
      .template start<Shape::kRows>(tiles.fixed(0), p.T);
  Copies(p.d_out.head<T>(b, h), p.d_out.of_row, t0, p.D, thread)
      .template start<Shape::kRows>(tiles.fixed(1), p.T);
  commit_copies();
  start_next_tile(0);

  const int warp_row = warp * Shape::kWarpRows, t_low = t0 + warp_row;
  const int t_high = min(t_low + Shape::kWarpRows, p.T) - 1;
  // A warp behind the last query has t_high < t_low, and nothing to do.
  const int first_of_warp = p.first(b, min(t_low, p.T - 1)),
            last_first_of_warp = p.first(b, t_high);
  QueryStats stats[kBlocks][2];
#pragma unroll
  for (int m = 0; m < kBlocks; ++m) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      stats[m][half] = p.stats_of(bh)[min(t_low + 16 * m + 8 * half + lane / 4, p.T - 1)];
    }
  }
  wait_for_copies<1>();
  __syncthreads();
  const Tile own = tiles.fixed(0).from(warp_row);
  const RowsInRegisters<Shape> query(RowsInTile<Shape>{own, lane});
  const RowsInRegisters<Shape> d_out(RowsInTile<Shape>{tiles.fixed(1).from(warp_row), lane});
  float d_query[kBlocks][Shape::kColumns / 8][4] = {};
  int stage = 0;
  for (int k0 = first_of_block; k0 < end_of_block; k0 += kMoving, stage ^= 1) {
    wait_for_copies<0>();
    __syncthreads();
    if (k0 + kMoving < end_of_block) start_next_tile(stage ^ 1);
#pragma unroll 1
    for (int part = 0; part < kMoving; part += kAtOnce) {
      const Tile key = tiles.moving(0, stage).from(part);
      const Tile value = tiles.moving(1, stage).from(part);
      const int k_low = k0 + part;
      if (k_low > t_high || t_high < t_low || k_low + kAtOnce <= first_of_warp) continue;
      float score[kBlocks][kAtOnce / 8][4], d_score[kBlocks][kAtOnce / 8][4];
      multiply_rows<Shape>(score, query, key, lane);
      multiply_rows<Shape>(d_score, d_out, value, lane);
      if (k_low + kAtOnce - 1 > t_low || k_low < last_first_of_warp) {
        mask_queries(score, p, b, 0, t_low, k_low, lane);
      }
      differentiate_queries<Shape, kDropout>(d_score, score, stats, p, bh, t_low, k_low, lane);
      add_products<T>(d_query, d_score, key, lane);
    }
  }
  wait_for_copies<0>();
  if (t_high < t_low) return;
  __syncwarp();
#pragma unroll
  for (int m = 0; m < kBlocks; ++m) {
    own.put(16 * m, d_query[m], p.scale, p.scale, lane);
  }
  __syncwarp();
  own.write_rows(p.gradient<T>(0, b, h, t_low), 3 * p.H * p.D, t_high - t_low + 1, p.D, lane);
}

template <class Shape, bool kDropout>
void launch_tiles(const BackwardProblem& p, cudaStream_t stream) {
  const unsigned blocks = blocks_of(p.T, Shape::kRows) * static_cast<unsigned>(p.B * p.H);
  for (const auto kernel :
       {attention_d_key_tiles<Shape, kDropout>, attention_d_query_tiles<Shape, kDropout>}) {
    allow_shared(kernel, Shape::kSharedBytes, "attention_backward");
    QUIRE_LAUNCH(kernel, blocks, kThreads, Shape::kSharedBytes, stream, p);
  }
}

void launch_tiles(const BackwardProblem& p, DType dtype, cudaStream_t stream) {
  dispatch(dtype, [&]<class T>() {
    if constexpr (sizeof(T) == 2) {
      choose(p.dropout.on, [&](auto dropout) {
        // As many rows as fit in 255 registers without spilling. Where dropout draws its numbers,
        // which takes longer than the products, more warps at a time do better.
        if (p.D <= 64) {
          launch_tiles<BackwardShape<T, 64, dropout() ? 1 : 2, 64, 32>, dropout()>(p, stream);
        } else {
          launch_tiles<BackwardShape<T, 128, 1, 64, 32>, dropout()>(p, stream);
        }
      });
    }
  });
}

/// Rows of a [B, T, C].
HeadRows plain_rows(const ConstView& x, int heads) {
  const std::int64_t T = x.shape()[1], C = x.shape()[2];
  return {x.bytes(), T * C, C / heads, static_cast<int>(C)};
}

}  // namespace

void CudaDevice::do_attention_backward(const AttentionBackward& p) {
  const Shape& shape = p.out.shape();
  const int D = static_cast<int>(shape[2]) / p.heads;
  const std::int64_t rows = shape[0] * shape[1] * p.heads;
  const std::int64_t stats_of_head = (shape[1] + 1) / 2 * 2;
  const BackwardProblem problem{
      .d_qkv = p.d_qkv.bytes(),
      .q = packed_rows(p.qkv, 0, p.heads),
      .k = packed_rows(p.qkv, 1, p.heads),
      .v = packed_rows(p.qkv, 2, p.heads),
      .out = plain_rows(p.out, p.heads),
      .d_out = plain_rows(p.d_out, p.heads),
      .lse = p.lse.data<float>(),
      .stats = scratch<QueryStats>(shape[0] * p.heads * stats_of_head),
      .stats_of_head = static_cast<int>(stats_of_head),
      .first_key = p.first_key ? p.first_key.data<std::int32_t>() : nullptr,
      .B = static_cast<int>(shape[0]),
      .H = p.heads,
      .T = static_cast<int>(shape[1]),
      .D = D,
      .scale = p.scale,
      .dropout = DropoutRule::of(p.dropout, p.key)};
  const bool whole = whole_rows(D, kPart, p.d_qkv, p.qkv, p.out, p.d_out);
  const DType dtype = p.qkv.dtype();
  const bool by_tiles = takes_mma(dtype, whole, D, p.scale);
  with_layout(dtype, whole, D, [&](auto layout) {
    using Layout = decltype(layout);
    QUIRE_LAUNCH(attention_stats<Layout>,
                 blocks_of(rows, kRowWarps * Layout::kRowsAtOnce * kStatsTogether), kRowThreads, 0,
                 stream_, problem);
  });
  if (by_tiles) return launch_tiles(problem, dtype, stream_);
  with_plain_layout(dtype, whole, D, [&](auto layout) {
    using Layout = decltype(layout);
    const dim3 grid(blocks_of(rows, kRowWarps), slices_of(D));
    QUIRE_LAUNCH(attention_d_query_rows<Layout>, grid, kRowThreads, 0, stream_, problem);
    QUIRE_LAUNCH(attention_d_key_rows<Layout>, grid, kRowThreads, 0, stream_, problem);
  });
}

}  // namespace quire::cuda

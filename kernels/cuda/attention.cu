// Causal self-attention: out = softmax(scale·q·kᵀ)·v, and the scores never reach memory.
//
// The fast path takes 128 queries of a head in a block. Tiles of 64 keys and values pass through
// shared memory, the next one on its way while one is worked on; each warp has 32 queries, keeps
// their running maximum, sum and output in registers, and takes the scores from one product's
// result to the next one's operand without leaving registers. (With 16 queries a warp, shared
// memory could not keep up: a tile is read 16 KB a warp, 1024 cycles a block at 128 bytes, against
// 830 of products.) A row's keys are counted from the first one that its block sees, so the bits of
// a left-padded row are those of the row alone. Tiles behind a warp's last query, or before its
// first key, are skipped; only those that the diagonal or a mask crosses are masked. A tile that is
// not takes a warp 663 issue slots, 128 of them products, at D = 64 (sm_90a).
//
// Traffic is 4·B·T·C elements, flops 2·B·T²·C (half of 4·B·T²·C, being causal). At B = 64,
// T = 1024, H = 12, D = 64 in bf16: 403 MB (120 µs at 3.35 TB/s) and 103 GFLOP, which take 450 µs
// at the 230 TFLOP/s that kernels of this class reach. exp2 is the second limit: 16 a cycle on each
// of 132 SMs, 403 million of them, 110 µs. Dropout draws one number a score, 80 instructions for
// four of them, and takes about as long as all the rest.
//
// Milakov and Gimelshein, "Online normalizer calculation for softmax" (2018); Dao,
// "FlashAttention-2" (2023).
#include "kernels/cuda/attention_rows.cuh"
#include "kernels/cuda/attention_tiles.cuh"
#include "kernels/cuda/device.h"

namespace quire::cuda {
namespace {

// ---------------------------------------------------------------- tiles

constexpr int kTileThreads = 128;

/// Blocks of 64·kBlocks queries: 16·kBlocks for each of the four warps.
template <class Element, int kColumns_, int kBlocks_, int kKeys_>
struct ForwardShape {
  using T = Element;
  static constexpr int kColumns = kColumns_;             // D, filled up with zeros
  static constexpr int kBlocks = kBlocks_;               // of 16 queries in a warp
  static constexpr int kKeys = kKeys_, kAtOnce = kKeys;  // of a tile
  static constexpr int kWarpQueries = 16 * kBlocks;
  static constexpr int kQueries = 4 * kWarpQueries;
  using Tile = SharedTile<T, kColumns>;
  static constexpr int kSharedBytes = Tile::bytes(kQueries) + 4 * Tile::bytes(kKeys);
};

/// 16 queries of a warp. A lane has two of them: lane/4 (half 0) and lane/4 + 8 (half 1).
template <int kColumns, int kScoreColumns>
struct QueryBlock {
  float largest[2];   // of the scores before they are scaled
  float sum[2] = {};  // this lane's share

  __device__ __forceinline__ QueryBlock() : largest{minus_infinity(), minus_infinity()} {}

  /// Turns scores into exp2(scale·(score - largest)), and what there is to the new largest.
  __device__ __forceinline__ void soften(float (&scores)[kScoreColumns][4],
                                         float (&out)[kColumns / 8][4], float scale_log2) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float now = largest[half];
#pragma unroll
      for (int n = 0; n < kScoreColumns; ++n) {
        now = fmaxf(now, fmaxf(scores[n][2 * half], scores[n][2 * half + 1]));
      }
      now = reduce_neighbours<4>(now, Greater{});
      // A query that has seen nothing yet has no largest score; 0 in its place leaves exp2(-inf).
      const float base = now == minus_infinity() ? 0.0f : now * scale_log2;
      const float shrink = fast_exp2(largest[half] * scale_log2 - base);
      largest[half] = now;
      float part = 0.0f;
#pragma unroll
      for (int n = 0; n < kScoreColumns; ++n) {
#pragma unroll
        for (int i = 2 * half; i < 2 * half + 2; ++i) {
          scores[n][i] = fast_exp2(fmaf(scores[n][i], scale_log2, -base));
          part += scores[n][i];
        }
      }
      sum[half] = fmaf(sum[half], shrink, part);
#pragma unroll
      for (int n = 0; n < kColumns / 8; ++n) {
        out[n][2 * half] *= shrink;
        out[n][2 * half + 1] *= shrink;
      }
    }
  }
};

/// Sets the probabilities of queries t_low … and keys k0 … to 0 that dropout does not keep.
template <class Shape>
__device__ __forceinline__ void drop_scores(float (&scores)[Shape::kBlocks][Shape::kKeys / 8][4],
                                            const AttentionProblem& p, int bh, int t_low, int k0,
                                            int lane) {
#pragma unroll
  for (int m = 0; m < Shape::kBlocks; ++m) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int t = t_low + 16 * m + 8 * half + lane / 4;
      const KeptOfRow<Shape::kKeys> kept(
          p.dropout, (static_cast<std::uint64_t>(bh) * p.T + t) * p.T + k0, lane);
#pragma unroll
      for (int n = 0; n < Shape::kKeys / 8; ++n) {
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          if (!kept.at(n, i, lane)) scores[m][n][2 * half + i] = 0.0f;
        }
      }
    }
  }
}

/// Queries t_low … of a warp into its part of shared memory, divided by their sums, and their lse.
template <class Shape, class Query>
__device__ __forceinline__ void put_output(
    const typename Shape::Tile& own, const Query (&query)[Shape::kBlocks],
    const float (&out)[Shape::kBlocks][Shape::kColumns / 8][4], const AttentionProblem& p, int bh,
    int t_low, int lane) {
  const float scale_log2 = p.scale * kLog2e;
#pragma unroll
  for (int m = 0; m < Shape::kBlocks; ++m) {
    float factor[2];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float sum = reduce_neighbours<4>(query[m].sum[half], Add{});
      factor[half] = sum == 0.0f ? 0.0f : p.dropout.factor / sum;
      const int t = t_low + 16 * m + 8 * half + lane / 4;
      if (p.lse != nullptr && lane % 4 == 0 && t < p.T) {
        p.lse[std::int64_t{bh} * p.T + t] =
            sum == 0.0f ? minus_infinity()
                        : (query[m].largest[half] * scale_log2 + log2f(sum)) * kLn2;
      }
    }
    own.put(16 * m, out[m], factor[0], factor[1], lane);
  }
}

/// Passes over the rows of the caches that lie between a tile of a row's keys and the next one.
template <class Copies>
__device__ __forceinline__ void pass_between(const AttentionProblem& p, int b, int tile, int next,
                                             Copies& keys, Copies& values) {
  const std::int64_t between = p.row_of(b, next) - p.row_of(b, tile) - (next - tile);
  keys.from += between * p.k.of_row;
  values.from += between * p.v.of_row;
}

template <class Shape, bool kDropout>
__global__ void __launch_bounds__(kTileThreads,
                                  Shape::kBlocks == 1 && Shape::kColumns == 64 ? 3 : 2)
    attention_tiles(AttentionProblem p) {
  using T = typename Shape::T;
  using Tile = typename Shape::Tile;
  constexpr int kColumns = Shape::kColumns, kBlocks = Shape::kBlocks, kKeys = Shape::kKeys;
  constexpr int kScoreColumns = kKeys / 8;
  const int thread = static_cast<int>(threadIdx.x);
  const int warp = static_cast<int>(threadIdx.x / kWarp),
            lane = static_cast<int>(threadIdx.x % kWarp);
  // The last queries have the most keys: they go first.
  const int tiles = (p.T + Shape::kQueries - 1) / Shape::kQueries;
  const int bh = static_cast<int>(blockIdx.x) / tiles;
  const int t0 = (tiles - 1 - static_cast<int>(blockIdx.x) % tiles) * Shape::kQueries;
  const int b = bh / p.H, h = bh % p.H;
  const int past = p.past_of(b);

  const Tile queries{reinterpret_cast<T*>(QUIRE_DYNAMIC_SHARED)};
  const auto tile_of = [&](int which) {  // keys 0 and 1, values 2 and 3
    return Tile{queries.first + (Shape::kQueries + which * kKeys) * kColumns};
  };
  const int first_of_block = p.first(b, t0), keys_end = past + p.T;
  const int end_of_block = past + min(t0 + Shape::kQueries, p.T);  // of keys
  using Copies = TileCopies<Tile, kTileThreads>;
  Copies keys(p.k.row<T>(b, h, p.row_of(b, 0)), p.k.of_row, first_of_block, p.D, thread);
  Copies values(p.v.row<T>(b, h, p.row_of(b, 0)), p.v.of_row, first_of_block, p.D, thread);
  const auto start_next_tile = [&](int stage) {
    keys.template start<kKeys>(tile_of(stage), keys_end);
    values.template start<kKeys>(tile_of(2 + stage), keys_end);
    commit_copies();
  };
  Copies(p.q.head<T>(b, h), p.q.of_row, t0, p.D, thread)
      .template start<Shape::kQueries>(queries, p.T);
  start_next_tile(0);

  const int warp_row = warp * Shape::kWarpQueries;  // of the block
  const Tile own = queries.from(warp_row);          // the warp's
  const int t_low = t0 + warp_row, t_high = min(t_low + Shape::kWarpQueries, p.T) - 1;
  // A warp behind the last query has t_high < t_low, and nothing to do.
  const int last_of_warp = t_high < t_low ? -1 : past + t_high;  // key
  const int first_of_warp = p.first(b, min(t_low, p.T - 1)),
            last_first_of_warp = p.first(b, t_high);
  const float scale_log2 = p.scale * kLog2e;
  QueryBlock<kColumns, kScoreColumns> query[kBlocks];
  float out[kBlocks][kColumns / 8][4] = {};

  int stage = 0;
  for (int k0 = first_of_block; k0 < end_of_block; k0 += kKeys, stage ^= 1) {
    wait_for_copies<0>();
    __syncthreads();  // this tile is here, and all warps are done with the other one
    if (k0 + kKeys < end_of_block) {
      if (p.blocks != nullptr) pass_between(p, b, k0, k0 + kKeys, keys, values);
      start_next_tile(stage ^ 1);
    }
    if (k0 > last_of_warp || k0 + kKeys <= first_of_warp) continue;

    float scores[kBlocks][kScoreColumns][4];
    multiply_rows<Shape>(scores, RowsInTile<Shape>{own, lane}, tile_of(stage), lane);
    if (k0 + kKeys - 1 > past + t_low || k0 < last_first_of_warp) {
      mask_queries(scores, p, b, past, t_low, k0, lane);
    }
#pragma unroll
    for (int m = 0; m < kBlocks; ++m) query[m].soften(scores[m], out[m], scale_log2);
    if constexpr (kDropout) drop_scores<Shape>(scores, p, bh, t_low, k0, lane);
    add_products<T>(out, scores, tile_of(2 + stage), lane);
  }
  if (first_of_block >= end_of_block) {  // nobody has waited for the queries
    wait_for_copies<0>();
    __syncthreads();
  }
  if (t_high < t_low) return;

  // The warp's queries are its own part of shared memory, and done with: the output goes there, and
  // from there in steps of 16 bytes.
  __syncwarp();
  put_output<Shape>(own, query, out, p, bh, t_low, lane);
  __syncwarp();
  own.write_rows(static_cast<T*>(p.out) + ((std::int64_t{b} * p.T + t_low) * p.H + h) * p.D,
                 p.H * p.D, t_high - t_low + 1, p.D, lane);
}

template <class Shape, bool kDropout>
void launch_tiles(const AttentionProblem& p, cudaStream_t stream) {
  constexpr auto kKernel = attention_tiles<Shape, kDropout>;
  allow_shared(kKernel, Shape::kSharedBytes, "attention");
  const unsigned tiles = blocks_of(p.T, Shape::kQueries);
  QUIRE_LAUNCH(kKernel, tiles * static_cast<unsigned>(p.B * p.H), kTileThreads, Shape::kSharedBytes,
               stream, p);
}

}  // namespace

void launch_attention(const AttentionProblem& p, DType dtype, bool whole, cudaStream_t stream) {
  if (takes_mma(dtype, whole, p.D, p.scale)) {
    dispatch(dtype, [&]<class T>() {
      if constexpr (sizeof(T) == 2) {
        // As many queries and keys as fit in 255 registers without spilling.
        choose(p.D <= 64, [&](auto narrow_head) {
          constexpr int kColumns = narrow_head() ? 64 : 128;
          if (p.dropout.on) return launch_tiles<ForwardShape<T, kColumns, 1, 64>, true>(p, stream);
          launch_tiles<ForwardShape<T, kColumns, 2, narrow_head() ? 64 : 32>, false>(p, stream);
        });
      }
    });
    return;
  }
  const std::int64_t queries = std::int64_t{p.B} * p.H * p.T;
  with_plain_layout(dtype, whole, p.D, [&](auto layout) {
    QUIRE_LAUNCH(attention_rows<decltype(layout)>,
                 dim3(blocks_of(queries, kRowWarps), slices_of(p.D)), kRowThreads, 0, stream, p);
  });
}

void CudaDevice::do_attention_forward(const AttentionForward& p) {
  const Shape& shape = p.out.shape();
  const int D = static_cast<int>(shape[2]) / p.heads;
  launch_attention({.out = p.out.bytes(),
                    .lse = p.lse.data<float>(),
                    .q = packed_rows(p.qkv, 0, p.heads),
                    .k = packed_rows(p.qkv, 1, p.heads),
                    .v = packed_rows(p.qkv, 2, p.heads),
                    .first_key = p.first_key ? p.first_key.data<std::int32_t>() : nullptr,
                    .B = static_cast<int>(shape[0]),
                    .H = p.heads,
                    .T = static_cast<int>(shape[1]),
                    .D = D,
                    .scale = p.scale,
                    .dropout = DropoutRule::of(p.dropout, p.key)},
                   p.qkv.dtype(), whole_rows(D, kPart, p.out, p.qkv), stream_);
}

}  // namespace quire::cuda

// What the attention kernels share: the problem as a launcher sees it, masks, dropout, and the
// softmax in base 2.
//
// Scores are taken times scale·log2(e), so that each exponential is one exp2. Two paths: matrix
// instructions for 16-bit types whose heads are whole steps of 16 bytes up to 128 elements
// (attention.cu, attention_backward.cu), and for all else a warp for each row (attention_rows.cuh).
#pragma once

#include <limits>

#include "kernels/cuda/math.cuh"
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/vec.cuh"
#include "kernels/ops.h"

namespace quire::cuda {

__device__ __forceinline__ float minus_infinity() {
#ifdef QUIRE_CUDA_ON_HOST
  return -std::numeric_limits<float>::infinity();
#else
  return __int_as_float(static_cast<int>(0xff800000u));
#endif
}

/// Rows of D elements that belong to heads: row t of head h of batch row b.
struct HeadRows {
  const void* first;
  std::int64_t of_batch, of_head;  // strides, in elements
  int of_row;

  template <class T>
  __device__ __forceinline__ const T* head(int b, int h) const {
    return static_cast<const T*>(first) + b * of_batch + h * of_head;
  }
  template <class T>
  __device__ __forceinline__ const T* row(int b, int h, int t) const {
    return head<T>(b, h) + std::int64_t{t} * of_row;
  }
};

struct DropoutRule {
  RandomKey key;
  std::uint32_t threshold = 0;
  float factor = 1.0f;  // of what is kept
  bool on = false;

  static DropoutRule of(float p, RandomKey key) {
    return {key, dropout_threshold(p), static_cast<float>(1.0 / (1.0 - static_cast<double>(p))),
            p > 0.0f};
  }
};

/// A bit for each of a block's four numbers: whether dropout keeps its element.
__device__ __forceinline__ unsigned kept_of_four(const DropoutRule& rule, std::uint64_t block) {
  const auto numbers = random_block(rule.key, block);
  return (numbers[0] >= rule.threshold ? 1u : 0u) | (numbers[1] >= rule.threshold ? 2u : 0u) |
         (numbers[2] >= rule.threshold ? 4u : 0u) | (numbers[3] >= rule.threshold ? 8u : 0u);
}

/// Which elements of a row of scores dropout keeps, drawn by the four lanes that have the row
/// together: kCount elements, each block of four numbers drawn once.
template <int kCount>
struct KeptOfRow {
  static constexpr int kWords = kCount / 32;
  unsigned bits[kWords];  // bit 0 is the first element's

  /// Elements element … element + kCount - 1 of the stream; all lanes of the warp call it.
  __device__ __forceinline__ KeptOfRow(const DropoutRule& rule, std::uint64_t element, int lane) {
    const unsigned offset = static_cast<unsigned>(element % 4);
    const std::uint64_t block = element / 4 + static_cast<unsigned>(lane % 4);
#pragma unroll
    for (int w = 0; w < kWords; ++w) {
      bits[w] =
          reduce_neighbours<4>(kept_of_four(rule, block + 8 * w) << lane % 4 * 4 |
                                   kept_of_four(rule, block + 8 * w + 4) << (lane % 4 * 4 + 16),
                               Either{});
    }
    if (!__any_sync(kWholeWarp, offset != 0)) return;  // rows of whole blocks
    const unsigned beyond =
        reduce_neighbours<4>(kept_of_four(rule, block + 8 * kWords) << lane % 4 * 4, Either{});
    if (offset == 0) return;
#pragma unroll
    for (int w = 0; w < kWords; ++w) {
      const unsigned next = w + 1 < kWords ? bits[w + 1 < kWords ? w + 1 : w] : beyond;
      bits[w] = bits[w] >> offset | next << (32 - offset);
    }
  }
  /// Element 8·n + 2·(lane%4) + i, as the results of products lie.
  __device__ __forceinline__ bool at(int n, int i, int lane) const {
    return (bits[n / 4] >> (n % 4 * 8 + lane % 4 * 2 + i) & 1u) != 0;
  }
};

/// The same for kCount elements, at most 32, drawn by one lane alone.
template <int kCount>
__device__ __forceinline__ unsigned kept_of_lane(const DropoutRule& rule, std::uint64_t element) {
  const unsigned offset = static_cast<unsigned>(element % 4);
  unsigned bits = 0;
#pragma unroll 2
  for (int w = 0; w < kCount / 4; ++w) bits |= kept_of_four(rule, element / 4 + w) << 4 * w;
  if (offset == 0) return bits;
  return bits >> offset | kept_of_four(rule, element / 4 + kCount / 4) << (kCount - offset);
}

/// Takes what lies outside columns first … last out of row lane/4 (half 0) or lane/4 + 8 (half 1)
/// of a product's scores.
template <int kBlocksOfColumns>
__device__ __forceinline__ void mask_row(float (&scores)[kBlocksOfColumns][4], int half, int first,
                                         int last, int lane) {
#pragma unroll
  for (int n = 0; n < kBlocksOfColumns; ++n) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int k = 8 * n + lane % 4 * 2 + i;
      if (k < first || k > last) scores[n][2 * half + i] = minus_infinity();
    }
  }
}

/// Where a slot of a row is, whose blocks begin there.
__device__ __forceinline__ int block_row(const int* blocks, int slot) {
  return blocks[slot / kCacheBlock] + slot % kCacheBlock;
}

/// A forward pass over T queries of each row, whose keys may begin before them.
struct AttentionProblem {
  void* out;                       // [B, T, C]
  float* lse = nullptr;            // [B, H, T], or null
  HeadRows q;                      // T rows
  HeadRows k, v;                   // past[b] + T rows
  const int* past = nullptr;       // [B], or null: 0. Query t is number past[b] + t of its row.
  const int* first_key = nullptr;  // [B, T], or null
  const int* blocks = nullptr;     // [B, blocks_of_row] rows of k and v where keys begin, or null
  int blocks_of_row = 0;
  int B, H, T, D;
  float scale;
  DropoutRule dropout = {};

  /// The smallest key that query t sees.
  __device__ __forceinline__ int first(int b, int t) const {
    return first_key == nullptr ? 0 : first_key[std::int64_t{b} * T + t];
  }
  __device__ __forceinline__ int past_of(int b) const { return past == nullptr ? 0 : past[b]; }
  /// Row of k and v that has a key of row b.
  __device__ __forceinline__ int row_of(int b, int key) const {
    return blocks == nullptr ? key : block_row(blocks + b * blocks_of_row, key);
  }
};

/// What a query's softmax takes to compute p and its gradient: p = exp2(score - lse_log2), and
/// d_score = p·(d_p - mean) with mean = d_out·out. lse_log2 is plus infinity, which makes p 0,
/// where the query sees nothing.
struct alignas(8) QueryStats {
  float lse_log2, mean;
};

struct BackwardProblem {
  void* d_qkv;       // [B, T, 3C]
  HeadRows q, k, v;  // of qkv
  HeadRows out, d_out;
  const float* lse;      // [B, H, T]
  QueryStats* stats;     // [B, H, stats_of_head]
  int stats_of_head;     // T, made even: pairs are aligned to 16 bytes
  const int* first_key;  // [B, T], or null
  int B, H, T, D;
  float scale;
  DropoutRule dropout;

  __device__ __forceinline__ int first(int b, int t) const {
    return first_key == nullptr ? 0 : first_key[std::int64_t{b} * T + t];
  }
  __device__ __forceinline__ QueryStats* stats_of(int bh) const {
    return stats + std::int64_t{bh} * stats_of_head;
  }
  /// Row t of head h of d_q, d_k or d_v (0, 1, 2).
  template <class T_>
  __device__ __forceinline__ T_* gradient(int which, int b, int h, int t) const {
    return static_cast<T_*>(d_qkv) + ((std::int64_t{b} * T + t) * 3 + which) * H * D + h * D;
  }
};

/// The forward pass on `stream`, by the path that fits: attention.cu.
void launch_attention(const AttentionProblem& problem, DType dtype, bool whole,
                      cudaStream_t stream);

/// q, k or v (0, 1, 2) of a packed [B, T, 3C].
inline HeadRows packed_rows(const ConstView& qkv, int which, int heads) {
  const std::int64_t T = qkv.shape()[1], width = qkv.shape()[2], C = width / 3;
  return {static_cast<const std::byte*>(qkv.bytes()) +
              static_cast<std::size_t>(which * C) * size_of(qkv.dtype()),
          T * width, C / heads, static_cast<int>(width)};
}

/// Whether the matrix instructions' path takes a head of D elements. (Its maximum is one of scores
/// before they are scaled.)
inline bool takes_mma(DType dtype, bool whole, int D, float scale) {
  return dtype != DType::f32 && whole && D <= 128 && scale > 0.0f;
}

}  // namespace quire::cuda

// Products of attention's tiles, which the forward and the backward pass share. A Shape has T, the
// Tile of T, kColumns (of a row: the head size filled up), kBlocks (of 16 rows that a warp has) and
// kAtOnce (rows of the moving tile that a product takes).
#pragma once

#include "kernels/cuda/attention.cuh"
#include "kernels/cuda/mma.cuh"

namespace quire::cuda {

/// A warp's rows as operands: read from their tile whenever they are wanted …
template <class Shape>
struct RowsInTile {
  typename Shape::Tile tile;  // begins with them
  int lane;

  __device__ __forceinline__ void load(std::uint32_t (&a)[Shape::kBlocks][4], int step) const {
#pragma unroll
    for (int m = 0; m < Shape::kBlocks; ++m) tile.load_a(a[m], 16 * m, step, lane);
  }
};
/// … or kept in registers.
template <class Shape>
struct RowsInRegisters {
  std::uint32_t kept[Shape::kColumns / 16][Shape::kBlocks][4];

  __device__ __forceinline__ explicit RowsInRegisters(const RowsInTile<Shape>& rows) {
#pragma unroll
    for (int step = 0; step < Shape::kColumns / 16; ++step) rows.load(kept[step], step);
  }
  __device__ __forceinline__ void load(std::uint32_t (&a)[Shape::kBlocks][4], int step) const {
#pragma unroll
    for (int m = 0; m < Shape::kBlocks; ++m) {
#pragma unroll
      for (int i = 0; i < 4; ++i) a[m][i] = kept[step][m][i];
    }
  }
};

/// sums = fixed rows · moving rowsᵀ: a warp's rows by the first kAtOnce of those that pass by.
template <class Shape, class Rows>
__device__ __forceinline__ void multiply_rows(float (&sums)[Shape::kBlocks][Shape::kAtOnce / 8][4],
                                              const Rows& fixed, const typename Shape::Tile& moving,
                                              int lane) {
  using T = typename Shape::T;
#pragma unroll
  for (int m = 0; m < Shape::kBlocks; ++m) {
#pragma unroll
    for (int n = 0; n < Shape::kAtOnce / 8; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) sums[m][n][i] = 0.0f;
    }
  }
#pragma unroll
  for (int step = 0; step < Shape::kColumns / 16; ++step) {
    std::uint32_t a[Shape::kBlocks][4];
    fixed.load(a, step);
#pragma unroll
    for (int n = 0; n < Shape::kAtOnce / 8; n += 2) {
      std::uint32_t b[4];
      moving.load_b_transposed(b, 8 * n, step, lane);
#pragma unroll
      for (int m = 0; m < Shape::kBlocks; ++m) {
        multiply_add<T>(sums[m][n], a[m], b[0], b[1]);
        multiply_add<T>(sums[m][n + 1], a[m], b[2], b[3]);
      }
    }
  }
}

/// sums += factors · moving rows, the factors rounded to T.
template <class T, class Tile, int kBlocks, int kColumnBlocks, int kCountBlocks>
__device__ __forceinline__ void add_products(float (&sums)[kBlocks][kColumnBlocks][4],
                                             const float (&factors)[kBlocks][kCountBlocks][4],
                                             const Tile& moving, int lane) {
#pragma unroll
  for (int step = 0; step < kCountBlocks / 2; ++step) {
    std::uint32_t a[kBlocks][4];
#pragma unroll
    for (int m = 0; m < kBlocks; ++m) {
      pack_a<T>(a[m], factors[m][2 * step], factors[m][2 * step + 1]);
    }
#pragma unroll
    for (int n = 0; n < kColumnBlocks; n += 2) {
      std::uint32_t b[4];
      moving.load_b(b, 16 * step, n / 2, lane);
#pragma unroll
      for (int m = 0; m < kBlocks; ++m) {
        multiply_add<T>(sums[m][n], a[m], b[0], b[1]);
        multiply_add<T>(sums[m][n + 1], a[m], b[2], b[3]);
      }
    }
  }
}

/// Takes out of the scores of queries t_low … what they do not see of keys k0 …: query t is number
/// past + t of its row.
template <int kBlocks, int kCountBlocks, class Problem>
__device__ __forceinline__ void mask_queries(float (&scores)[kBlocks][kCountBlocks][4],
                                             const Problem& p, int b, int past, int t_low, int k0,
                                             int lane) {
#pragma unroll
  for (int m = 0; m < kBlocks; ++m) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int t = t_low + 16 * m + 8 * half + lane / 4;
      const int first = p.first(b, min(t, p.T - 1)) - k0, last = past + t - k0;
      mask_row(scores[m], half, first, last, lane);
    }
  }
}

}  // namespace quire::cuda

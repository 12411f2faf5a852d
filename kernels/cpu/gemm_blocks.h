// The product with a weight in blocks of integers (kernels/quantised.h), for any number of rows.
//
// x is rounded to integers of 16 bits, each block of 32 elements to multiples of its own
// max|x|/32767, so that one element 1000 times the rest leaves the others of its block 30 steps, and
// all other blocks as they are. A block's products are then summed exactly, in 32 bits: at most
// 32·32767·128 = 2^27. Only blocks are added in float,
//
//   sum[n] = fma(float(block's sum), d[n]·max|x|/32767, sum[n])    in order of k
//
// so an element has the same bits whatever the number of rows, of threads, and of a vector's lanes.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/epilogue.h"
#include "kernels/cpu/parallel.h"
#include "kernels/weight.h"

namespace quire::cpu {

/// Rows of x that lie together, block by block.
inline constexpr std::int64_t kGroupRows = 8;

/// Rows of x as integers, for products with one weight, in groups of kGroupRows, or of all rows where
/// there are fewer; those behind the last row are not written. How the 64 bytes of a block's codes
/// lie is known to round_row() and multiply_blocks().
struct RoundedRows {
  WeightFormat format;    // of the weight
  std::int64_t rows;      // at most
  std::int64_t blocks;    // K/32
  std::int64_t group;     // rows of a group
  std::byte* codes;       // [rows/group][block][group][64]
  float* scales;          // [rows/group][block][group]
  std::int32_t* offsets;  // [rows/group][block][group], to be added to a block's sum of products

  static std::size_t bytes(std::int64_t rows, std::int64_t blocks);
  RoundedRows(std::byte* memory, WeightFormat format, std::int64_t rows, std::int64_t blocks);

  /// Where a row's first block is; its next one is `group` further on.
  std::int64_t first_block(std::int64_t row) const {
    return row / group * blocks * group + row % group;
  }
};

/// Row `row` of x, from `x` on.
void round_row(const float* x, const RoundedRows& to, std::int64_t row);

/// Columns of c, [first_panel·16, (first_panel + panels)·16) as far as there are, from rows [first,
/// first + rows) of x: x·weightᵀ + bias. `first` is a multiple of kGroupRows.
struct BlockTile {
  const Weight* weight;  // in blocks
  const RoundedRows* x;
  std::int64_t first_row, rows, first_panel, panels;
  const float* bias;  // [N], or null
  float* c;           // row 0 of x, [N] each
};
void multiply_blocks(const BlockTile& tile);

/// c = a·weight + bias and what follows it, in tasks; product.b is not used.
void multiply_with_blocks(const Product& product, const Weight& weight, const Epilogue& epilogue,
                          ThreadPool& pool);

}  // namespace quire::cpu

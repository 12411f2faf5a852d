// The packed product of many rows, over strided operands; stream.h has the one of few rows.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/parallel.h"
#include "kernels/tensor.h"

namespace quire::cpu {

/// A matrix in memory, element (i, j) at data[i·row_stride + j·column_stride]; one stride is 1.
struct Operand {
  const void* data = nullptr;
  DType dtype = DType::f32;
  std::int64_t row_stride = 0;
  std::int64_t column_stride = 1;
};

/// c = a_scale·a·b + bias, or c += a_scale·a·b.
struct Product {
  std::int64_t m = 0, n = 0, k = 0;
  Operand a;           // [m, k] f32
  Operand b;           // [k, n] any float type
  float* c = nullptr;  // [m, n], rows c_stride apart
  std::int64_t c_stride = 0;
  const float* bias = nullptr;  // [n], or null
  float a_scale = 1.0f;         // each element of a is multiplied by it before all else
  enum class Output : std::uint8_t { overwrite, accumulate } output = Output::overwrite;
};

/// Every sum of floats over k is taken in parts of this many: a part is one chain of fused
/// multiply-adds from zero, parts are added in order of k. As all products keep to it, an element
/// of c has the same bits whatever the number of rows or threads;
/// and parts can be computed side by side.
inline constexpr std::int64_t kSumDepth = 128;

/// The tile of rows [first_row, +rows) and columns [first_column, +columns), from packed rows:
/// `packed` is that buffer, `packed_rows` its rows, `packed_first` the row it starts with.
struct Tile {
  std::int64_t first_row, rows, first_column, columns;
  const void* packed;
  std::int64_t packed_first, packed_rows;
};

/// How operands are packed and multiplied. What is packed consists of words of 32 bits, each one k
/// of a row, or two neighbours in 16 bits.
struct PackedFormat {
  std::int64_t panel_rows;     // rows of a register tile
  std::int64_t panel_columns;  // columns of a register tile
  std::int64_t word_depth;     // k of one word
  std::int64_t scratch_words;  // that multiply() wants

  /// Packs rows [first, first + count) of a into panels of panel_rows: block by block along k,
  /// panel by panel, [words of a block][panel_rows], scaled by a_scale. `packed` holds packed_rows
  /// rows in all (whole panels), and these become its rows `at` and on,
  /// `at` at the start of a panel.
  void (*pack_rows)(const Product& product, std::int64_t first, std::int64_t count, void* packed,
                    std::int64_t packed_rows, std::int64_t at);
  void (*multiply)(const Product& product, const Tile& tile, void* scratch);

  std::int64_t words(std::int64_t depth) const { return (depth + word_depth - 1) / word_depth; }
};

/// Floats, at the SIMD level in use; gemm_bf16.h has the other format.
PackedFormat float_format();

/// sums[j] += rows[0][j] + rows[1][j] + …, for count columns of row_count rows
/// that lie `stride` apart.
void add_column_sums(const float* rows, std::int64_t row_count, std::int64_t stride,
                     std::int64_t count, float* sums);

}  // namespace quire::cpu

// The product of few rows, c[m,n] = a[m,k]·b[k,n] + bias, is bound by reading b. Memory is at its
// fastest when a core reads it from end to end (on one Zen 5, twice as fast as in columns of a few
// hundred floats), so b is cut into pieces that are contiguous: ranges of k where its rows are,
// ranges of columns where its columns are.
#pragma once

#include <cstdint>

#include "kernels/cpu/gemm.h"
#include "kernels/cpu/lanes.h"

namespace quire::cpu {

/// At most this many rows: m of every product here.
inline constexpr std::int64_t kFewRows = 8;

/// How rows of a are read and multiplied; the loops around it are in matmul.cpp. Where b's rows are
/// contiguous, a part of the sum (see kSumDepth) is one task and `add_parts` another; where its
/// columns are, some of them are a task.
struct StreamedFormat {
  std::int64_t word_depth;   // k of one word of 32 bits, as in PackedFormat
  std::int64_t sum_depth;    // k of one part of the sum
  std::int64_t sum_columns;  // a row of sums is filled up to a multiple of so many

  /// a·a_scale in m·words(k) words, in an order that `rows` and `columns` know.
  void (*prepare)(const Product& product, void* x);
  /// One part for columns [first, first + count), `first` a multiple of 64:
  /// sums[i][j] = sum of x[i][k]·b[k][j] over k in [first_k, first_k + depth). `sums` is [m, n] with
  /// its rows filled up, in an order of columns that `add_parts` knows.
  void (*rows)(const Product& product, const void* x, std::int64_t first_k, std::int64_t depth,
               std::int64_t first, std::int64_t count, float* sums);
  /// Columns [first, first + count) of c from all parts, [parts, m, n] with rows filled up, and the
  /// bias. `first` is a multiple of 64.
  void (*add_parts)(const Product& product, const float* sums, std::int64_t parts,
                    std::int64_t first, std::int64_t count);
  /// Columns [first, first + count) of c, whole.
  void (*columns)(const Product& product, const void* x, std::int64_t first, std::int64_t count);

  std::int64_t words(std::int64_t depth) const { return (depth + word_depth - 1) / word_depth; }
};

/// Floats, by b of any type, at the SIMD level in use.
StreamedFormat float_streams();
/// Rounded to bfloat16, by b stored so; where why_no_bf16() is empty, as in gemm_bf16.h. Rows of a
/// are contiguous.
StreamedFormat bf16_streams();
/// The same in the order of gemm_amx.h; where why_no_bf16() is empty.
StreamedFormat amx_streams();

/// How a device multiplies in bfloat16: all sum in one order.
struct Bf16Formats {
  PackedFormat many_rows{};
  StreamedFormat few_rows{};
  LanesFormat rows_in_lanes{};  // none where tiles multiply
};

}  // namespace quire::cpu

// The packed product of many rows, over strided operands; stream.h has the one of few rows.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "kernels/cpu/parallel.h"
#include "kernels/tensor.h"
#include "kernels/weight.h"

namespace quire::cpu {

/// A matrix in memory, element (i, j) at data[i·row_stride + j·column_stride]; one stride is 1. A
/// weight in panels (WeightLayout) has rows of one panel, panel_stride elements from the next.
struct Operand {
  const void* data = nullptr;
  DType dtype = DType::f32;
  std::int64_t row_stride = 0;
  std::int64_t column_stride = 1;
  std::int64_t panel_stride = 0;  // 0: not in panels

  /// Where element (i, j) of a matrix with contiguous rows lies, and the rest of its row, of one in
  /// pair_panels with even i. To be called from code for any level of vectors.
  template <class T>
  [[gnu::always_inline]] const T* at(std::int64_t i, std::int64_t j) const {
    const T* elements = static_cast<const T*>(data) + i * row_stride;
    if (panel_stride == 0) return elements + j;
    return elements + j / kPanelColumns * panel_stride + j % kPanelColumns;
  }
};

/// c = a_scale·a·b + bias, or c += a_scale·a·b.
struct Product {
  std::int64_t m = 0, n = 0, k = 0;
  Operand a;           // [m, k] f32
  Operand b;           // [k, n] any float type
  float* c = nullptr;  // [m, n], rows c_stride apart
  std::int64_t c_stride = 0;
  const float* bias = nullptr;   // [n], or null
  float a_scale = 1.0f;          // each element of a is multiplied by it before all else
  float* column_sums = nullptr;  // [n] += sum_k(b), in order of k; or null. b has f32 in rows.
  enum class Output : std::uint8_t { overwrite, accumulate } output = Output::overwrite;
};

/// Every sum of floats over k is taken in parts of this many: a part is one chain of fused
/// multiply-adds from zero, parts are added in order of k. As all products keep to it, an element
/// of c has the same bits whatever the number of rows or threads;
/// and parts can be computed side by side.
inline constexpr std::int64_t kSumDepth = 128;

/// Rows of memory that will be read: `rows` of `bytes` bytes, `stride` bytes apart.
struct Ahead {
  const std::byte* first = nullptr;
  std::int64_t rows = 0, bytes = 0, stride = 0;
  std::int64_t at = 0;  // bytes of the first row that were asked for

  /// Of cache. A row that begins within one ends in one more, which is not asked for: processors
  /// bring it unasked, and asked for 8 rows by a weight in float took half as long again (Zen 4).
  std::int64_t lines() const { return rows * ((bytes + kLine - 1) / kLine); }
  /// How many to ask for in each of `steps`.
  std::int64_t lines_a_step(std::int64_t steps) const {
    if (lines() <= steps) return 1;  // divides where it has to
    return (lines() + steps - 1) / std::max<std::int64_t>(steps, 1);
  }
  /// Asks for the next `lines` of it, from the second-level cache on. Inlined, as it is called from
  /// code for any level of vectors.
  [[gnu::always_inline]] void ask(std::int64_t lines) {
    for (; lines > 0 && rows > 0; --lines) {
      __builtin_prefetch(first + at, /*rw=*/0, /*locality=*/2);
      at += kLine;
      if (at < bytes) continue;
      at = 0;
      first += stride;
      --rows;
    }
  }

  static constexpr std::int64_t kLine = 64;
};

/// A register tile of c, and how it and its rows of a are reached.
struct TileOfC {
  float* c = nullptr;                  // overwritten
  std::int64_t stride = 0;             // of rows
  std::int64_t rows = 0, columns = 0;  // at most panel_rows, panel_columns
  const float* sums = nullptr;         // what is added to: may be c; null: nothing
  std::int64_t sums_stride = 0;        // of rows
  const float* bias = nullptr;         // [columns], added last; or null
  std::int64_t step_of_a = 0;  // words of a from one word of depth to the next; 0: panel_rows
};

/// A panel of b where it lies, and where it is packed.
struct PanelOfB {
  const Operand& b;
  std::int64_t first_column, first_k;
  void* packed;
  bool keep;  // it is used again: leaves it in `packed`
};

/// How operands are packed and multiplied; the loops around it are in many_rows.cpp. What is packed
/// consists of words of 32 bits, each one k of a row of a or a column of b, or two neighbours in 16
/// bits.
struct PackedFormat {
  std::int64_t panel_rows;     // rows of a register tile
  std::int64_t panel_columns;  // columns of a register tile
  std::int64_t word_depth;     // k of one word
  std::int64_t step_depth;     // k that are multiplied at once: panels are as deep as whole steps
  std::int64_t block_depth;    // k of one part of the sum, a multiple of step_depth

  /// Panels of panel_rows rows of a, one behind the other, each of panel_rows·words(depth) words in
  /// the order that `multiply` wants: element (first_row + row, first_k + k) of `a` times `scale` for
  /// the first `count` rows and k below `depth`; zero for the rows that the last panel has besides,
  /// and for what a step has behind `depth`.
  void (*pack_rows)(const Operand& a, std::int64_t first_row, std::int64_t count,
                    std::int64_t first_k, std::int64_t depth, float scale, void* words);
  /// c = a·b, or c = sums + a·b, for two panels of `depth`: a sum that starts from zero and is then
  /// added.
  /// Asks for what lies ahead meanwhile.
  void (*multiply)(const void* a, const void* b, std::int64_t depth, const TileOfC& tile,
                   Ahead ahead);
  /// The same with b where it lies, which is packed on the way.
  void (*pack_and_multiply)(const void* a, const PanelOfB& b, std::int64_t depth,
                            const TileOfC& tile, Ahead ahead);
  /// The panel where b lies, if it lies there as it would be packed; null where it does not.
  const void* (*packed_already)(const PanelOfB& b) = nullptr;
  /// What a thread calls before its first product of a task and after its last; or null.
  void (*enter)() = nullptr;
  void (*leave)() = nullptr;

  std::int64_t words(std::int64_t depth) const {
    return (depth + step_depth - 1) / step_depth * (step_depth / word_depth);
  }
};

/// Floats, at the SIMD level in use; gemm_bf16.h and gemm_amx.h have the other formats.
PackedFormat float_format();

/// sums[j] += rows[0][j] + rows[1][j] + …, for count columns of row_count rows
/// that lie `stride` apart.
void add_column_sums(const float* rows, std::int64_t row_count, std::int64_t stride,
                     std::int64_t count, float* sums);

}  // namespace quire::cpu

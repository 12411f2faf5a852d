// The product of few rows by a weight whose columns are contiguous, rows in the lanes of vectors:
// lanes-inl.h says how.
#pragma once

#include <cstdint>

#include "kernels/cpu/gemm.h"

namespace quire::cpu {

/// At most this many rows. Beyond, packing the weight is a small part of the product.
inline constexpr std::int64_t kMostRowsInLanes = 64;

/// The sums are those of StreamedFormat and PackedFormat, bit for bit.
struct LanesFormat {
  /// Whether a product by contiguous columns is faster so than in any other way; null: none is.
  bool (*suits)(const Product& product) = nullptr;
  /// Words of 32 bits of x.
  std::int64_t (*words)(const Product& product) = nullptr;
  /// a·a_scale, turned. Each thread does it for itself: it comes out of its own cache afterwards.
  void (*turn)(const Product& product, std::uint32_t* x) = nullptr;
  /// Columns [first, first + count) of c, whole; those behind them are asked for.
  void (*columns)(const Product& product, const std::uint32_t* x, std::int64_t first,
                  std::int64_t count) = nullptr;
};

/// Floats, by a weight of any type, at the SIMD level in use.
LanesFormat float_lanes();
/// Rounded to bfloat16, by a weight stored so, in the order of gemm_bf16.h; where why_no_bf16() is empty.
/// Rows of a are contiguous.
LanesFormat bf16_lanes();

}  // namespace quire::cpu

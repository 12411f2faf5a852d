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
  /// Whether so many rows by a weight of that type are faster so than in any other way; null: none are.
  bool (*suits)(std::int64_t rows, DType weight) = nullptr;
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

}  // namespace quire::cpu

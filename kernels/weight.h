// A matrix that products multiply with, as it is stored: only read, in one of two layouts, in a
// format that may have blocks of elements.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "kernels/tensor.h"

namespace quire {

/// How a weight lies in memory. GPT-2's Conv1D has in_out; its head, the embedding table, has
/// out_in.
enum class WeightLayout : std::uint8_t { in_out /* [K, N] */, out_in /* [N, K] */ };

enum class WeightFormat : std::uint8_t { float32, float16, bfloat16 };

/// A format stores as many elements of a row together as a block has, in so many bytes. All that is
/// said of sizes is said here.
struct WeightFormatEntry {
  DType dtype;
  std::int64_t block_elements;
  std::int64_t block_bytes;
};
inline constexpr std::array<WeightFormatEntry, 3> kWeightFormats = {{
    {DType::f32, 1, 4},   // float32
    {DType::f16, 1, 2},   // float16
    {DType::bf16, 1, 2},  // bfloat16
}};

/// The format of plain elements. Throws Error(internal) for a type that no weight has.
WeightFormat format_of(DType dtype);

/// Owns nothing; an empty one (no data) stands for "not given".
struct Weight {
  const void* data = nullptr;
  WeightFormat format = WeightFormat::float32;
  WeightLayout layout = WeightLayout::in_out;
  Shape shape;  // [K, N] or [N, K], as it lies

  Weight() = default;
  /// Plain elements, as a tensor or a file has them.
  Weight(const ConstView& matrix, WeightLayout lies)
      : data(matrix.bytes()),
        format(format_of(matrix.dtype())),
        layout(lies),
        shape(matrix.shape()) {}

  std::int64_t in() const { return shape[layout == WeightLayout::in_out ? 0 : 1]; }   // K
  std::int64_t out() const { return shape[layout == WeightLayout::in_out ? 1 : 0]; }  // N
  DType dtype() const { return entry().dtype; }
  std::size_t size_bytes() const {
    return static_cast<std::size_t>(shape.count() / entry().block_elements * entry().block_bytes);
  }
  /// Its elements, in a format without blocks.
  ConstView view() const { return {data, dtype(), shape}; }
  /// The same memory, read as the transpose: x [M, N] times it is [M, K].
  Weight transposed() const {
    Weight other = *this;
    other.layout = layout == WeightLayout::in_out ? WeightLayout::out_in : WeightLayout::in_out;
    return other;
  }
  explicit operator bool() const { return data != nullptr; }

 private:
  const WeightFormatEntry& entry() const {
    return kWeightFormats[static_cast<std::size_t>(format)];
  }
};

/// A weight that may be written: one that trains, or a gradient in the layout of its weight.
struct WritableWeight {
  View view;  // [K, N] or [N, K]
  WeightLayout layout = WeightLayout::in_out;

  operator Weight() const { return {view, layout}; }
  explicit operator bool() const { return static_cast<bool>(view); }
};

/// One that an op adds to, as Accumulate is for views.
struct AccumulateWeight {
  WritableWeight weight;
};

}  // namespace quire

// A matrix that products multiply with, as it is stored: only read, in one of some layouts, in a
// format that may have blocks of elements.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "kernels/tensor.h"

namespace quire {

/// How a weight lies in memory. GPT-2's Conv1D has in_out; its head, the embedding table, has
/// out_in. In panels, columns filled up with zeros to whole ones, a product reads memory from end to
/// end and keeps its sums in registers: Device::layout_to_decode() names the devices that do.
enum class WeightLayout : std::uint8_t {
  in_out,       // [K, N]
  out_in,       // [N, K]
  panels,       // [N/48, K, 48]
  pair_panels,  // [N/48, K/2, 48, 2]: neighbours of k, the last one's zero where K is odd; of 16 bits
};

/// Columns of a panel.
inline constexpr std::int64_t kPanelColumns = 48;
constexpr bool in_panels(WeightLayout layout) {
  return layout == WeightLayout::panels || layout == WeightLayout::pair_panels;
}

/// Plain elements, or the blocks that GGUF calls Q8_0 and Q4_0, packed: kernels/quantised.h.
enum class WeightFormat : std::uint8_t { float32, float16, bfloat16, q8_0, q4_0 };

/// A format stores as many elements of a row together as a block has, in so many bytes, and as many
/// rows together as a panel has: their number is filled up to whole panels. All that is said of
/// sizes is said here.
struct WeightFormatEntry {
  const char* name;
  DType dtype;  // of the elements, or what blocks are read as
  std::int64_t block_elements;
  std::int64_t block_bytes;
  std::int64_t panel_rows;
};
inline constexpr std::array<WeightFormatEntry, 5> kWeightFormats = {{
    {"float32", DType::f32, 1, 4, 1},
    {"float16", DType::f16, 1, 2, 1},
    {"bfloat16", DType::bf16, 1, 2, 1},
    {"q8_0", DType::f32, 32, 34, 16},
    {"q4_0", DType::f32, 32, 18, 16},
}};
constexpr const WeightFormatEntry& entry_of(WeightFormat format) {
  return kWeightFormats[static_cast<std::size_t>(format)];
}

/// The format of plain elements. Throws Error(internal) for a type that no weight has.
WeightFormat format_of(DType dtype);
constexpr const char* name_of(WeightFormat format) {
  return entry_of(format).name;
}
constexpr bool in_blocks(WeightFormat format) {
  return entry_of(format).block_elements > 1;
}

/// Owns nothing; an empty one (no data) stands for "not given". In blocks, the layout is out_in and K
/// a multiple of the block's elements; data that begin on a multiple of 64 bytes are read fastest.
struct Weight {
  const void* data = nullptr;
  WeightFormat format = WeightFormat::float32;
  WeightLayout layout = WeightLayout::in_out;
  Shape shape;  // [K, N], or [N, K] where it lies so

  Weight() = default;
  /// Plain elements, as a tensor or a file has them.
  Weight(const ConstView& matrix, WeightLayout lies)
      : data(matrix.bytes()),
        format(format_of(matrix.dtype())),
        layout(lies),
        shape(matrix.shape()) {}
  /// In any format, as it lies.
  Weight(const void* bytes, WeightFormat of, WeightLayout lies, Shape extents)
      : data(bytes), format(of), layout(lies), shape(extents) {}

  std::int64_t in() const { return shape[layout == WeightLayout::out_in ? 1 : 0]; }   // K
  std::int64_t out() const { return shape[layout == WeightLayout::out_in ? 0 : 1]; }  // N
  /// The type of its elements; of those in blocks, float32, as which they are read.
  DType dtype() const { return entry_of(format).dtype; }
  std::size_t size_bytes() const;
  /// From one panel to the next, where it lies in panels.
  std::int64_t panel_elements() const {
    return (layout == WeightLayout::pair_panels ? in() + in() % 2 : in()) * kPanelColumns;
  }
  /// Its elements as [K, N] or [N, K]; throws Error(internal) where it has blocks or lies in panels.
  ConstView view() const;
  /// The same memory, read as the transpose: x [M, N] times it is [M, K]. Not of panels.
  Weight transposed() const;
  explicit operator bool() const { return data != nullptr; }
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

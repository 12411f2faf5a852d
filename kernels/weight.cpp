#include "kernels/weight.h"

#include <algorithm>

#include "base/error.h"

namespace quire {

WeightFormat format_of(DType dtype) {
  size_of(dtype);  // throws where it is no type at all
  const auto found =
      std::find_if(kWeightFormats.begin(), kWeightFormats.end(),
                   [&](const WeightFormatEntry& entry) { return entry.dtype == dtype; });
  if (found == kWeightFormats.end()) {
    throw Error(Fault::internal, std::string("a weight is ") + name_of(dtype) +
                                     ", wants float32, float16 or bfloat16");
  }
  return static_cast<WeightFormat>(found - kWeightFormats.begin());
}

std::size_t Weight::size_bytes() const {
  const WeightFormatEntry& entry = entry_of(format);
  if (in_panels(layout)) {
    const std::int64_t panels = (out() + kPanelColumns - 1) / kPanelColumns;
    return static_cast<std::size_t>(panels * panel_elements() * entry.block_bytes);
  }
  const std::int64_t panels = (shape[0] + entry.panel_rows - 1) / entry.panel_rows;
  return static_cast<std::size_t>(panels * entry.panel_rows * shape[1] / entry.block_elements *
                                  entry.block_bytes);
}

ConstView Weight::view() const {
  if (in_blocks(format)) {
    throw Error(Fault::internal, std::string("a weight in ") + name_of(format) +
                                     " has blocks, and no plain elements");
  }
  if (in_panels(layout)) throw Error(Fault::internal, "a weight in panels has no rows to view");
  return {data, dtype(), shape};
}

Weight Weight::transposed() const {
  if (in_panels(layout)) throw Error(Fault::internal, "a weight in panels is read as a transpose");
  Weight other = *this;
  other.layout = layout == WeightLayout::in_out ? WeightLayout::out_in : WeightLayout::in_out;
  return other;
}

}  // namespace quire

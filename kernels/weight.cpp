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

void throw_in_blocks(WeightFormat format) {
  throw Error(Fault::internal,
              std::string("a weight in ") + name_of(format) + " has blocks, and no plain elements");
}

}  // namespace quire

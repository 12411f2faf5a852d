// What storing a result in 16 bits adds to the bound of the same computation in float.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/tensor.h"

namespace quire::test {

/// As the type holds them, widened again.
inline std::vector<float> rounded_to(DType dtype, std::vector<float> values) {
  for (float& value : values) {
    if (dtype == DType::f16) value = to_float(to_half(value));
    if (dtype == DType::bf16) value = to_float(to_bfloat16(value));
  }
  return values;
}

/// Half the distance between a number of this size and the next: what rounding it to nearest is off
/// by at most. 0 in float, whose bounds count their own roundings.
inline double half_ulp(DType dtype, double size) {
  if (dtype == DType::f32) return 0.0;
  const int digits = dtype == DType::f16 ? 11 : 8;
  const int lowest = dtype == DType::f16 ? -14 : -126;  // below it the distance stays
  const int exponent = size > 0.0 ? std::max(std::ilogb(size), lowest) : lowest;
  return std::ldexp(1.0, exponent - digits);
}

/// The bound of a result that is off by `bound` before it is stored.
inline double stored(DType dtype, double want, double bound) {
  return bound + half_ulp(dtype, std::abs(want) + bound);
}

}  // namespace quire::test

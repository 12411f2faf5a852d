// How far a result may be from another one of the same formula: what roundings can do at most. The
// tests of the kernels use the same numbers.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/ops.h"

namespace quire::verify {

/// Float's machine epsilon. One rounding is off by half of it at most, so a sum of k products that
/// a bound calls k·eps·Σ|ab| may take its roundings in any order, fused or not.
inline constexpr double kEps = 0x1p-23;

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

/// Each is x (or 1, for tanh) times a smooth function of size up to one: eight roundings of that
/// function, its argument's among them. Copies and relu round nothing.
inline double activation_bound(Activation activation, double x) {
  if (activation == Activation::none || activation == Activation::relu) return 0.0;
  if (activation == Activation::tanh) return 8.0 * kEps * std::min(1.0, std::abs(x));
  return 8.0 * kEps * std::abs(x);
}

/// The slope is a sum of such a function and, for the smooth ones, x times its derivative, where
/// the derivative is made of 1 - t² or s·(1 - s): eight roundings of each part, the derivative
/// taken at its largest beside x, as the subtraction may cancel.
inline double activation_slope_bound(Activation activation, double x) {
  switch (activation) {
    case Activation::none:
    case Activation::relu:
      return 0.0;
    case Activation::gelu_new:  // the inner derivative grows with x²
      return 8.0 * kEps * (1.0 + std::abs(x) * 0.8 * (1.0 + 0.134145 * x * x));
    case Activation::gelu:
    case Activation::silu:
      return 8.0 * kEps * (1.0 + std::abs(x));
    case Activation::tanh:
      return 8.0 * kEps;
  }
  return 0.0;
}

/// The steepest slope there is, |gelu'| at about 1.4.
inline constexpr double kSteepest = 1.13;

}  // namespace quire::verify

// How exact an activation has to be.
#pragma once

#include <cmath>

#include "kernels/reference/formulas.h"
#include "tests/support/compare.h"

namespace quire::test {

inline constexpr Activation kActivations[] = {Activation::none, Activation::gelu_new,
                                              Activation::gelu, Activation::relu,
                                              Activation::silu, Activation::tanh};

inline const char* name_of(Activation activation) {
  constexpr const char* kNames[] = {"none", "gelu_new", "gelu", "relu", "silu", "tanh"};
  return kNames[static_cast<int>(activation)];
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

}  // namespace quire::test

// How exact an activation has to be.
#pragma once

#include <cmath>

#include "kernels/reference/formulas.h"
#include "tests/support/compare.h"
#include "verify/bounds.h"

namespace quire::test {

inline constexpr Activation kActivations[] = {Activation::none, Activation::gelu_new,
                                              Activation::gelu, Activation::relu,
                                              Activation::silu, Activation::tanh};

inline const char* name_of(Activation activation) {
  constexpr const char* kNames[] = {"none", "gelu_new", "gelu", "relu", "silu", "tanh"};
  return kNames[static_cast<int>(activation)];
}

using verify::activation_bound;
using verify::activation_slope_bound;
using verify::kSteepest;

}  // namespace quire::test

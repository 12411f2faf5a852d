// Activations for the epilogues of other ops.
#pragma once

#include <cstdint>

#include "kernels/ops.h"

namespace quire::cpu {

/// out[i] = activation(x[i]) for n floats; x may be out. On the calling thread.
void activation_row(Activation activation, const float* x, float* out, std::int64_t n);

}  // namespace quire::cpu

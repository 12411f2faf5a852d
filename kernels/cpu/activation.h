// Activations for the epilogues of other ops.
#pragma once

#include <cstdint>

#include "kernels/ops.h"

namespace quire::cpu {

/// out[i] = activation(x[i]) for n floats; x may be out. On the calling thread.
void activation_row(Activation activation, const float* x, float* out, std::int64_t n);

/// d_x[i] = d_out[i]·activation'(x[i]) for n floats; d_x may be d_out. On the calling thread.
void activation_backward_row(Activation activation, const float* x, const float* d_out, float* d_x,
                             std::int64_t n);

}  // namespace quire::cpu

// Gradients of biases: column sums in two stages, without atomics and in one order.
#pragma once

#include "kernels/cuda/error.h"
#include "kernels/tensor.h"

namespace quire::cuda {

/// Rows that a block takes at a time: ceil(M/8) parts at most have something to do.
inline constexpr int kBiasRows = 8;

/// partial [parts, N] f32: the sums over every parts-th group of kBiasRows rows of d_out [M, N].
void sum_columns(float* partial, unsigned parts, const ConstView& d_out, std::int64_t N,
                 cudaStream_t stream);

/// d_bias [N] += the sum of partial [parts, N].
void add_to_bias(float* d_bias, const float* partial, unsigned parts, std::int64_t N,
                 cudaStream_t stream);

}  // namespace quire::cuda

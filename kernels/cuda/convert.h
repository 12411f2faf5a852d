// Elements of one float type as those of another, rounded to nearest: for products whose operands
// the library wants in one type.
#pragma once

#include "kernels/cuda/error.h"
#include "kernels/tensor.h"

namespace quire::cuda {

/// Views of equal counts, at any address, that do not overlap.
void convert(const View& to, const ConstView& from, cudaStream_t stream);

/// to += from, of 16 bits and of float, rounded once. Views as above.
void add(const View& to, const ConstView& from, cudaStream_t stream);

}  // namespace quire::cuda

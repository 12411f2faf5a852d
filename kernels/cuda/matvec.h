// Products of up to kMatvecRows rows with a weight of any float type, read once.
#pragma once

#include "kernels/cuda/error.h"
#include "kernels/ops.h"

namespace quire::cuda {

inline constexpr int kMatvecRows = 8;

/// Whether shapes, types and alignment are such that the launches below take them.
bool takes_matvec(const MatmulForward& p);
void launch_matvec(const MatmulForward& p, cudaStream_t stream);
/// Each block adds and normalises the rows for itself, so p.layernorm.sum must not be its x.
void launch_layernorm_matvec(const LayernormMatmul& p, cudaStream_t stream);

}  // namespace quire::cuda

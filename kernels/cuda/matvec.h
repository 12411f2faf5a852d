// Products of up to kMatvecRows rows with a weight of any float type, read once.
#pragma once

#include "kernels/cuda/launch.cuh"
#include "kernels/ops.h"

namespace quire::cuda {

inline constexpr int kMatvecRows = 8;

/// Whether shapes, types and alignment are such that the launches below take them. They then give
/// an element the same bits in either layout of the weight and among any number of rows.
bool takes_matvec(const MatmulForward& p);
void launch_matvec(const MatmulForward& p, const ChainLaunch& how);
/// Each block adds and normalises the rows for itself, so p.layernorm.sum must not be its x.
bool takes_layernorm_matvec(const LayernormMatmul& p);
void launch_layernorm_matvec(const LayernormMatmul& p, const ChainLaunch& how);

}  // namespace quire::cuda

// Products of up to kMatvecRows rows with a weight of any float type, read once.
#pragma once

#include "kernels/cuda/launch.cuh"
#include "kernels/ops.h"

namespace quire::cuda {

inline constexpr int kMatvecRows = 8;

/// Whether shapes, types and alignment are such that the launch below takes them. It then gives an
/// element the same bits in either layout of the weight and among any number of rows.
bool takes_matvec(const MatmulForward& p);
/// Each block adds and normalises the rows for itself, so p.layernorm.sum must not be its x.
bool takes_layernorm_matvec(const LayernormMatmul& p);
/// With what comes before the product, where something does.
void launch_matvec(const MatmulForward& p, const ChainLaunch& how,
                   const ResidualLayernormForward* before = nullptr);

}  // namespace quire::cuda

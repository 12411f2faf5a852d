// The ceilings of this machine, measured: what a kernel's speed is a percentage of.
#pragma once

#include <cstddef>

#include "kernels/cpu/parallel.h"

namespace quire::cpu {

/// Flops a second of independent fused multiply-adds in registers, all threads together.
double measure_fma_peak(ThreadPool& pool, double seconds);

/// The same of dot products in bfloat16, where why_no_bf16() knows no reason against them.
double measure_bf16_peak(ThreadPool& pool, double seconds);
/// And of products of tiles, where why_no_amx() knows none.
double measure_amx_peak(ThreadPool& pool, double seconds);

/// Bytes a second of reading `bytes` of memory (well beyond the caches) once, all threads together:
/// the best pass of those that fit into `seconds`.
double measure_read_bandwidth(ThreadPool& pool, std::size_t bytes, double seconds);

}  // namespace quire::cpu

// The ceilings of this machine, measured: what a kernel's speed is a percentage of.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/memory.h"
#include "kernels/cpu/parallel.h"

namespace quire::cpu {

/// Flops a second of independent fused multiply-adds in registers, all threads together.
double measure_fma_peak(ThreadPool& pool, double seconds);

/// The same of dot products in bfloat16, where why_no_bf16() knows no reason against them.
double measure_bf16_peak(ThreadPool& pool, double seconds);
/// And of products of tiles, where why_no_amx() knows none.
double measure_amx_peak(ThreadPool& pool, double seconds);

/// How fast memory is read, as often as it is asked.
class ReadBandwidth {
 public:
  /// Takes and fills `bytes`, which must be well beyond the caches. `pool` must outlive this.
  ReadBandwidth(ThreadPool& pool, std::size_t bytes);

  /// Bytes a second of reading them once, all threads together: the best pass of those that fit into
  /// `seconds`.
  double measure(double seconds);

 private:
  ThreadPool* pool_;
  GrowingBlock block_;
  float* data_;
  std::int64_t count_;
};

}  // namespace quire::cpu

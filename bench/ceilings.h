// The ceilings that every figure is held against, measured on the spot.
#pragma once

#include <algorithm>

#include "engine/training/cost.h"
#include "kernels/device.h"

namespace quire {

/// A CPU's are measured with all threads. What can be measured on a CPU alone, reading and
/// multiply-adds in registers, is elsewhere what copying and the product reach.
struct Ceilings {
  double copy_bytes_per_second = 0;  // Device::copy(): read and written
  double read_bytes_per_second = 0;
  double fma_flops_per_second = 0;   // or of dot products in bfloat16, or of tiles
  double gemm_flops_per_second = 0;  // CPU: measure_matmul(); else measure_large_matmul()

  /// For kernels that read and write.
  double memory() const { return std::max(copy_bytes_per_second, read_bytes_per_second); }
  double compute() const { return std::max(fma_flops_per_second, gemm_flops_per_second); }
};

struct CeilingOptions {
  int threads = 0;              // as the device was opened with
  double seconds = 0.5;         // for each of the four
  std::size_t bytes = 1 << 28;  // read once a pass: 256 MiB is beyond any cache
  DType dtype = DType::f32;     // that products compute in
};

Ceilings measure_ceilings(Device& device, const CeilingOptions& options);

/// Of squares in `dtype`, 256 wide and then twice as wide until one takes 10 ms or is 8192 wide:
/// the best rate of them all.
double measure_large_matmul(Device& device, DType dtype, double seconds);

}  // namespace quire

// The ceilings that every figure is held against, measured on the spot.
#pragma once

#include "kernels/ops.h"

namespace quire {

struct Ceilings {
  double read_bytes_per_second = 0;  // memory, all threads
  double fma_flops_per_second = 0;   // multiply-adds in registers, all threads
  double gemm_flops_per_second = 0;  // measure_matmul()
};

struct CeilingOptions {
  int threads = 0;              // as the device was opened with
  double seconds = 0.5;         // for each of the three
  std::size_t bytes = 1 << 28;  // read once a pass: 256 MiB is beyond any cache
};

Ceilings measure_ceilings(Device& device, const CeilingOptions& options);

/// Flops a second of the device's own product at a shape of GPT-2's, [256, 768]·[768, 3072]: the
/// best of those that fit into `seconds`, and of three at least.
double measure_matmul(Device& device, double seconds = 0.4);

}  // namespace quire

// The ceilings that every figure is held against, measured on the spot.
#pragma once

#include "kernels/ops.h"

namespace quire {

struct Ceilings {
  double read_bytes_per_second = 0;  // memory, all threads
  double fma_flops_per_second = 0;   // multiply-adds in registers, all threads
  double gemm_flops_per_second = 0;  // the device's own product of 1024 × 1024 × 1024
};

struct CeilingOptions {
  int threads = 0;              // as the device was opened with
  double seconds = 0.5;         // for each of the three
  std::size_t bytes = 1 << 28;  // read once a pass: 256 MiB is beyond any cache
};

Ceilings measure_ceilings(Device& device, const CeilingOptions& options);

}  // namespace quire

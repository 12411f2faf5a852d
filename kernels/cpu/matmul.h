// Matrix products on the CPU: one packed GEMM for many rows, one streaming product for few.
//
// Bytes and flops of out[M,N] = x[M,K]·w[K,N]: 2·M·N·K flops over M·K + K·N + M·N elements. Below
// about 8 rows the weight's bytes decide, and the product runs at the speed
// of memory; above, the flops do.
//
// Both sum over k in the same parts (kSumDepth in gemm.h), so an element's bits depend neither on M
// nor on how the work is split over threads.
#pragma once

#include "kernels/cpu/parallel.h"
#include "kernels/ops.h"

namespace quire::cpu {

void matmul_forward(const MatmulForward& args, ThreadPool& pool);
void matmul_backward_input(const MatmulBackwardInput& args, ThreadPool& pool);
void matmul_backward_weight(const MatmulBackwardWeight& args, ThreadPool& pool);
void matmul_add(const MatmulAdd& args, ThreadPool& pool);

}  // namespace quire::cpu

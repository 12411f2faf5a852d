// What the kernels of matvec.cu and matvec_mma.cu share: their arguments,
// and what becomes of a sum.
#pragma once

#include "kernels/cuda/activation.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/vec.cuh"
#include "kernels/ops.h"

namespace quire::cuda {

constexpr int kPart = 8;               // elements of K in a lane: 16 bytes of a 16-bit type
constexpr int kReach = kWarp * kPart;  // and in a warp
constexpr int kMostWarps = 12;         // of a block: GPT-2's 3072 at once
/// Elements of a row of 16 bits that a block normalises: eight rows are in 48 KB of shared memory.
constexpr int kMostNormalised = 2752;

/// What comes before the product, where something does: the rows are those of x + branch, written
/// to sum, normalised.
struct Before {
  void* sum;
  const void* branch;
  const float* weight;  // null: nothing does
  const float* bias;
  float eps;
  float share;  // 1/K
};
struct Matvec {
  void* out;             // [rows, N]
  bool out_is_float;     // else x's type
  bool overlapped;       // launched so
  bool recorded;         // and the weights are there before the kernels in front of it are done
  void* pre_activation;  // [rows, N] of x's type, or null
  const void* x;         // [rows, K]
  const void* weight;    // [K, N] or [N, K]
  const float* bias;     // [N], or null
  int rows, K, N;
  Activation activation;
  Before before;
};

/// Warps that share K in a block.
inline int warps_for(int K) {
  const int steps = (K + kReach - 1) / kReach;
  const int rounds = (steps + kMostWarps - 1) / kMostWarps;
  return (steps + rounds - 1) / rounds;
}

/// The sum and what is done to it.
template <class X>
__device__ __forceinline__ void store(const Matvec& p, int m, int n, float sum) {
  const std::int64_t i = std::int64_t{m} * p.N + n;
  if (p.pre_activation != nullptr) static_cast<X*>(p.pre_activation)[i] = narrow<X>(sum);
  with_activation(p.activation, [&]<Activation kKind>() { sum = activate<kKind>(sum); });
  if (p.out_is_float) {
    static_cast<float*>(p.out)[i] = sum;
  } else {
    static_cast<X*>(p.out)[i] = narrow<X>(sum);
  }
}

/// matvec_mma.cu: x and weight of one 16-bit type; K at most kMostNormalised where x is normalised.
void launch_matvec_mma(const Matvec& p, DType dtype, WeightLayout layout, const ChainLaunch& how);

}  // namespace quire::cuda

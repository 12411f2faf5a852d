// Matrix products on the CPU, as plain loops.
#include "kernels/cpu/matmul.h"

#include <algorithm>
#include <cmath>

namespace quire::cpu {
namespace {

float activate(Activation kind, float x) {
  switch (kind) {
    case Activation::none:
      return x;
    case Activation::gelu_new:
      return 0.5f * x * (1.0f + std::tanh(0.7978845608f * (x + 0.044715f * x * x * x)));
    case Activation::gelu:
      return 0.5f * x * (1.0f + std::erf(x * 0.7071067812f));
    case Activation::relu:
      return x < 0.0f ? 0.0f : x;
    case Activation::silu:
      return x / (1.0f + std::exp(-x));
    case Activation::tanh:
      return std::tanh(x);
  }
  return x;
}

float element(const ConstView& view, std::int64_t i) {
  if (view.dtype() == DType::bf16) return to_float(view.data<BFloat16>()[i]);
  if (view.dtype() == DType::f16) return to_float(view.data<Half>()[i]);
  return view.data<float>()[i];
}

}  // namespace

void matmul_forward(const MatmulForward& p, ThreadPool& pool) {
  const std::int64_t M = p.x.shape()[0], K = p.x.shape()[1], N = p.out.shape()[1];
  const bool in_out = p.layout == WeightLayout::in_out;
  pool.run(M, [&](std::int64_t m) {
    const float* x = p.x.data<float>() + m * K;
    float* row = pool.scratch<float>(N);
    std::fill(row, row + N, 0.0f);
    for (std::int64_t k = 0; k < K; ++k) {
      for (std::int64_t n = 0; n < N; ++n) {
        row[n] = std::fma(x[k], element(p.weight, in_out ? k * N + n : n * K + k), row[n]);
      }
    }
    for (std::int64_t n = 0; n < N; ++n) {
      const float pre = row[n] + (p.bias ? p.bias.data<float>()[n] : 0.0f);
      if (p.pre_activation) p.pre_activation.data<float>()[m * N + n] = pre;
      p.out.data<float>()[m * N + n] = activate(p.activation, pre);
    }
  });
}

void matmul_backward_input(const MatmulBackwardInput& p, ThreadPool& pool) {
  const std::int64_t M = p.d_x.shape()[0], K = p.d_x.shape()[1], N = p.d_out.shape()[1];
  const bool in_out = p.layout == WeightLayout::in_out;
  pool.run(M, [&](std::int64_t m) {
    for (std::int64_t k = 0; k < K; ++k) {
      float sum = 0.0f;
      for (std::int64_t n = 0; n < N; ++n) {
        const float w = element(p.weight, in_out ? k * N + n : n * K + k);
        sum = std::fma(p.d_out.data<float>()[m * N + n], w, sum);
      }
      p.d_x.data<float>()[m * K + k] = sum;
    }
  });
}

void matmul_backward_weight(const MatmulBackwardWeight& p, ThreadPool& pool) {
  const std::int64_t M = p.x.shape()[0], K = p.x.shape()[1], N = p.d_out.shape()[1];
  const bool in_out = p.layout == WeightLayout::in_out;
  const float* x = p.x.data<float>();
  const float* d_out = p.d_out.data<float>();
  float* d_weight = p.d_weight.view.data<float>();
  pool.run(N, [&](std::int64_t n) {
    for (std::int64_t k = 0; k < K; ++k) {
      float sum = 0.0f;
      for (std::int64_t m = 0; m < M; ++m) sum = std::fma(x[m * K + k], d_out[m * N + n], sum);
      d_weight[in_out ? k * N + n : n * K + k] += sum;
    }
    if (!p.d_bias.view) return;
    float sum = 0.0f;
    for (std::int64_t m = 0; m < M; ++m) sum += d_out[m * N + n];
    p.d_bias.view.data<float>()[n] += sum;
  });
}

}  // namespace quire::cpu

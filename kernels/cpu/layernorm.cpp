// Layernorm: each row is read from memory once; the passes behind the first find it in the cache
// (768 channels are 3 KiB).
#include <algorithm>
#include <cmath>

#include "kernels/cpu/device.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/layernorm.cpp"
#include "hwy/foreach_target.h"
#include "kernels/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace quire::cpu::HWY_NAMESPACE {
namespace {

struct Statistics {
  float mean;
  float rstd;
};

Statistics normalise_row(const float* x, const float* weight, const float* bias, float eps,
                         std::int64_t C, float* out) {
  const float channels = static_cast<float>(C);
  const float mean = sum_terms(C, [&](std::int64_t c, std::int64_t count)
                                      QUIRE_INLINE_LAMBDA { return load(x + c, count); }) /
                     channels;
  // From the deviations, not from sum(x²) - mean²: that would lose all digits
  // where mean >> deviation.
  const float squares = sum_terms(C, [&](std::int64_t c, std::int64_t count) QUIRE_INLINE_LAMBDA {
    const Vec deviation = hn::Sub(load(x + c, count), set(mean));
    return hn::Mul(deviation, deviation);
  });
  const float rstd = 1.0f / std::sqrt(squares / channels + eps);
  for_vectors(C, [&](std::int64_t c, std::int64_t count) QUIRE_INLINE_LAMBDA {
    const Vec normalised = hn::Mul(hn::Sub(load(x + c, count), set(mean)), set(rstd));
    store(hn::MulAdd(normalised, load(weight + c, count), load(bias + c, count)), out + c, count);
  });
  return {mean, rstd};
}

/// Without a branch x itself is normalised.
void residual_layernorm_forward(const ResidualLayernormForward& p, ThreadPool& pool) {
  const std::int64_t C = p.weight.count();
  const float* x = p.x.data<float>();
  const float* branch = p.branch.data<float>();
  const float* weight = p.weight.data<float>();
  const float* bias = p.bias.data<float>();
  float* sum = p.sum.data<float>();
  float* out = p.out.data<float>();
  float* mean = p.mean.data<float>();
  float* rstd = p.rstd.data<float>();
  const std::int64_t rows = std::max<std::int64_t>(1, 16384 / C);  // of a task: about 64 KiB
  pool.run_pieces(p.x.count() / C, rows, [&](std::int64_t first, std::int64_t length) HWY_ATTR {
    for (std::int64_t n = first; n < first + length; ++n) {
      const std::int64_t row = n * C;
      if (branch != nullptr) {
        for_vectors(C, [&](std::int64_t c, std::int64_t count) QUIRE_INLINE_LAMBDA {
          store(hn::Add(load(x + row + c, count), load(branch + row + c, count)), sum + row + c,
                count);
        });
      }
      const Statistics s =
          normalise_row((branch != nullptr ? sum : x) + row, weight, bias, p.eps, C, out + row);
      if (mean != nullptr) mean[n] = s.mean;
      if (rstd != nullptr) rstd[n] = s.rstd;
    }
  });
}

// One row of the backward op; adds the row's share to d_weight and d_bias where they are given.
void backward_row(const float* x, const float* d_out, const float* weight, Statistics s,
                  std::int64_t C, float* d_x, float* d_weight, float* d_bias) {
  const auto normalised = [&](std::int64_t c, std::int64_t count) QUIRE_INLINE_LAMBDA {
    return hn::Mul(hn::Sub(load(x + c, count), set(s.mean)), set(s.rstd));
  };
  const auto g = [&](std::int64_t c, std::int64_t count) QUIRE_INLINE_LAMBDA {
    return hn::Mul(load(d_out + c, count), load(weight + c, count));
  };
  const float channels = static_cast<float>(C);
  const float mean_g = sum_terms(C, g) / channels;
  const float mean_gn =
      sum_terms(C, [&](std::int64_t c, std::int64_t count)
                       QUIRE_INLINE_LAMBDA { return hn::Mul(g(c, count), normalised(c, count)); }) /
      channels;
  for_vectors(C, [&](std::int64_t c, std::int64_t count) QUIRE_INLINE_LAMBDA {
    const Vec n = normalised(c, count);
    const Vec centred = hn::NegMulAdd(n, set(mean_gn), hn::Sub(g(c, count), set(mean_g)));
    store(hn::MulAdd(set(s.rstd), centred, load(d_x + c, count)), d_x + c, count);
    if (d_weight != nullptr) {
      const Vec gradient = load(d_out + c, count);
      store(hn::MulAdd(gradient, n, load(d_weight + c, count)), d_weight + c, count);
      store(hn::Add(gradient, load(d_bias + c, count)), d_bias + c, count);
    }
  });
}

void layernorm_backward(const LayernormBackward& p, ThreadPool& pool) {
  const std::int64_t C = p.weight.count();
  const std::int64_t N = p.x.count() / C;
  const float* x = p.x.data<float>();
  const float* d_out = p.d_out.data<float>();
  const float* weight = p.weight.data<float>();
  const float* mean = p.mean.data<float>();
  const float* rstd = p.rstd.data<float>();
  float* d_x = p.d_x.view.data<float>();
  const bool parameters = static_cast<bool>(p.d_weight.view);

  // Each task sums its rows into its own [2, C] (weight, bias); these are then added up in order.
  // At least 32 rows a task keep them small beside the rows, at most 64 tasks bound their number.
  const std::int64_t rows = std::max<std::int64_t>(32, (N + 63) / 64);
  const std::int64_t tasks = (N + rows - 1) / rows;
  float* partial = parameters ? pool.shared_scratch<float>(tasks * 2 * C) : nullptr;
  pool.run_pieces(N, rows, [&](std::int64_t first, std::int64_t length) HWY_ATTR {
    float* d_weight = parameters ? partial + first / rows * 2 * C : nullptr;
    float* d_bias = parameters ? d_weight + C : nullptr;
    if (parameters) std::fill(d_weight, d_weight + 2 * C, 0.0f);
    for (std::int64_t n = first; n < first + length; ++n) {
      backward_row(x + n * C, d_out + n * C, weight, {mean[n], rstd[n]}, C, d_x + n * C, d_weight,
                   d_bias);
    }
  });
  if (!parameters) return;
  float* d_weight = p.d_weight.view.data<float>();
  float* d_bias = p.d_bias.view.data<float>();
  constexpr std::int64_t kColumns = 512;
  pool.run_pieces(C, kColumns, [&](std::int64_t first, std::int64_t length) HWY_ATTR {
    for_vectors(length, [&](std::int64_t i, std::int64_t count) QUIRE_INLINE_LAMBDA {
      const std::int64_t c = first + i;
      Vec sum_weight = zero(), sum_bias = zero();
      for (std::int64_t task = 0; task < tasks; ++task) {
        const float* mine = partial + task * 2 * C + c;
        sum_weight = hn::Add(sum_weight, load(mine, count));
        sum_bias = hn::Add(sum_bias, load(mine + C, count));
      }
      store(hn::Add(load(d_weight + c, count), sum_weight), d_weight + c, count);
      store(hn::Add(load(d_bias + c, count), sum_bias), d_bias + c, count);
    });
  });
}

}  // namespace
}  // namespace quire::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace quire::cpu {

QUIRE_CPU_OP(residual_layernorm_forward, ResidualLayernormForward)
QUIRE_CPU_OP(layernorm_backward, LayernormBackward)

}  // namespace quire::cpu
#endif  // HWY_ONCE

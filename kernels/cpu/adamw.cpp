// AdamW in one pass over p, g, m and v (16 bytes read and 12 written a parameter), and the squared
// norm that clipping wants. All tensors form one row of chunks, so that a model's many small
// tensors cost no more than its large ones.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "kernels/cpu/device.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/adamw.cpp"
#include "hwy/foreach_target.h"
#include "kernels/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace quire::cpu::HWY_NAMESPACE {
namespace {

/// Elements [first, first + count) of tensor `tensor`.
struct Chunk {
  std::size_t tensor;
  std::int64_t first;
  std::int64_t count;
};

template <class CountOf>
std::vector<Chunk> chunks_of(std::size_t tensors, CountOf count_of) {
  constexpr std::int64_t kChunk = 32768;
  std::vector<Chunk> chunks;
  for (std::size_t tensor = 0; tensor < tensors; ++tensor) {
    const std::int64_t count = count_of(tensor);
    for (std::int64_t first = 0; first < count; first += kChunk) {
      chunks.push_back({tensor, first, std::min(kChunk, count - first)});
    }
  }
  return chunks;
}

template <class T>
void narrow_row(const float* from, T* to, std::int64_t n, T (*narrow)(float)) {
  for (std::int64_t i = 0; i < n; ++i) to[i] = narrow(from[i]);
}

void adamw(const AdamwStep& s, ThreadPool& pool) {
  const std::vector<Chunk> chunks =
      chunks_of(s.tensors.size(), [&](std::size_t i) { return s.tensors[i].param.count(); });
  const double step = static_cast<double>(s.step);
  const double correction1 = 1.0 - std::pow(double{s.beta1}, step);
  const double correction2 = std::sqrt(1.0 - std::pow(double{s.beta2}, step));
  const Vec beta2 = set(s.beta2);
  const Vec rest1 = set(static_cast<float>(1.0 - double{s.beta1}));
  const Vec rest2 = set(static_cast<float>(1.0 - double{s.beta2}));
  const Vec rate = set(static_cast<float>(double{s.lr} / correction1));
  const Vec root_correction = set(static_cast<float>(correction2));
  const Vec eps = set(s.eps);
  const Vec grad_scale = set(s.grad_scale);
  pool.run(static_cast<std::int64_t>(chunks.size()), [&](std::int64_t task) HWY_ATTR {
    const Chunk& chunk = chunks[static_cast<std::size_t>(task)];
    const AdamwTensor& tensor = s.tensors[chunk.tensor];
    const Vec decay = set(static_cast<float>(1.0 - double{s.lr} * tensor.weight_decay));
    float* param = tensor.param.data<float>() + chunk.first;
    float* m = tensor.m.data<float>() + chunk.first;
    float* v = tensor.v.data<float>() + chunk.first;
    const float* grad = tensor.grad.data<float>() + chunk.first;
    for_vectors(chunk.count, [&](std::int64_t i, std::int64_t count) QUIRE_INLINE_LAMBDA {
      const Vec g = hn::Mul(load(grad + i, count), grad_scale);
      const Vec old_m = load(m + i, count);
      const Vec new_m = hn::MulAdd(hn::Sub(g, old_m), rest1, old_m);
      const Vec new_v = hn::MulAdd(hn::Mul(rest2, g), g, hn::Mul(beta2, load(v + i, count)));
      const Vec divisor = hn::Add(hn::Div(hn::Sqrt(new_v), root_correction), eps);
      const Vec decayed = hn::Mul(load(param + i, count), decay);
      store(new_m, m + i, count);
      store(new_v, v + i, count);
      store(hn::NegMulAdd(rate, hn::Div(new_m, divisor), decayed), param + i, count);
    });
    if (!tensor.copy) return;
    if (tensor.copy.dtype() == DType::f16) {
      narrow_row<Half>(param, tensor.copy.data<Half>() + chunk.first, chunk.count, to_half);
    } else {
      narrow_row<BFloat16>(param, tensor.copy.data<BFloat16>() + chunk.first, chunk.count,
                           to_bfloat16);
    }
  });
}

// In double: the squares of floats are exact there, and their sum cannot overflow.
double squared_sum(const float* x, std::int64_t n) {
#if HWY_HAVE_FLOAT64
  const hn::ScalableTag<double> d;
  const hn::Rebind<float, decltype(d)> half;
  const std::int64_t lanes = static_cast<std::int64_t>(hn::Lanes(d));
  auto s0 = hn::Zero(d), s1 = hn::Zero(d), s2 = hn::Zero(d), s3 = hn::Zero(d);
  std::int64_t i = 0;
  for (; i + 4 * lanes <= n; i += 4 * lanes) {
    const auto x0 = hn::PromoteTo(d, hn::LoadU(half, x + i));
    const auto x1 = hn::PromoteTo(d, hn::LoadU(half, x + i + lanes));
    const auto x2 = hn::PromoteTo(d, hn::LoadU(half, x + i + 2 * lanes));
    const auto x3 = hn::PromoteTo(d, hn::LoadU(half, x + i + 3 * lanes));
    s0 = hn::MulAdd(x0, x0, s0);
    s1 = hn::MulAdd(x1, x1, s1);
    s2 = hn::MulAdd(x2, x2, s2);
    s3 = hn::MulAdd(x3, x3, s3);
  }
  double sum = hn::GetLane(hn::SumOfLanes(d, hn::Add(hn::Add(s0, s1), hn::Add(s2, s3))));
#else
  double sum = 0.0;
  std::int64_t i = 0;
#endif
  for (; i < n; ++i) sum += double{x[i]} * x[i];
  return sum;
}

double squared_norm(std::span<const ConstView> tensors, ThreadPool& pool) {
  const std::vector<Chunk> chunks =
      chunks_of(tensors.size(), [&](std::size_t i) { return tensors[i].count(); });
  double* partial = pool.shared_scratch<double>(static_cast<std::int64_t>(chunks.size()));
  pool.run(static_cast<std::int64_t>(chunks.size()), [&](std::int64_t task) HWY_ATTR {
    const Chunk& chunk = chunks[static_cast<std::size_t>(task)];
    partial[task] = squared_sum(tensors[chunk.tensor].data<float>() + chunk.first, chunk.count);
  });
  return std::accumulate(partial, partial + chunks.size(), 0.0);
}

}  // namespace
}  // namespace quire::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace quire::cpu {

HWY_EXPORT(squared_norm);

QUIRE_CPU_OP(adamw, AdamwStep)

double CpuDevice::do_squared_norm(std::span<const ConstView> tensors) {
  return HWY_DYNAMIC_DISPATCH(squared_norm)(tensors, pool_);
}

}  // namespace quire::cpu
#endif  // HWY_ONCE

// Cross entropy: a row of logits (50,257 floats, 196 KiB) comes from memory once, for its maximum;
// the passes behind find it in the second-level cache.
#include <cmath>

#include "kernels/cpu/device.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/cross_entropy.cpp"
#include "hwy/foreach_target.h"
#include "kernels/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace quire::cpu::HWY_NAMESPACE {
namespace {

void cross_entropy_forward(const CrossEntropyForward& p, ThreadPool& pool) {
  const std::int64_t V = p.vocabulary(), columns = p.logits.shape()[1];
  const float* logits = p.logits.data<float>();
  const std::int32_t* targets = p.targets.data<std::int32_t>();
  float* losses = p.losses.data<float>();
  pool.run(p.targets.count(), [&](std::int64_t n) HWY_ATTR {
    if (targets[n] == kIgnoredTarget) {
      losses[n] = 0.0f;
      return;
    }
    const float* row = logits + n * columns;
    const float largest = max_of(row, V);
    const float sum = sum_terms(V, [&](std::int64_t v, std::int64_t count) QUIRE_INLINE_LAMBDA {
      return exp_bounded(hn::Sub(load(row + v, count), set(largest)));
    });
    losses[n] = static_cast<float>(std::log(double{sum}) + (double{largest} - row[targets[n]]));
  });
}

void cross_entropy_backward(const CrossEntropyBackward& p, ThreadPool& pool) {
  const std::int64_t V = p.vocabulary(), columns = p.logits_to_grads.shape()[1];
  float* logits = p.logits_to_grads.data<float>();
  const std::int32_t* targets = p.targets.data<std::int32_t>();
  float* losses = p.losses.data<float>();
  pool.run(p.targets.count(), [&](std::int64_t n) HWY_ATTR {
    float* row = logits + n * columns;
    if (targets[n] == kIgnoredTarget) {
      losses[n] = 0.0f;
      std::memset(row, 0, static_cast<std::size_t>(columns) * sizeof(float));
      return;
    }
    std::memset(row + V, 0, static_cast<std::size_t>(columns - V) * sizeof(float));
    const float largest = max_of(row, V);
    const double from_largest = double{largest} - row[targets[n]];
    // The exponentials replace the logits; the last pass makes them probabilities.
    const float sum = sum_terms(V, [&](std::int64_t v, std::int64_t count) QUIRE_INLINE_LAMBDA {
      const Vec e = exp_bounded(hn::Sub(load(row + v, count), set(largest)));
      store(e, row + v, count);
      return e;
    });
    losses[n] = static_cast<float>(std::log(double{sum}) + from_largest);
    // (p - 1)·scale cancels where p is nearly 1; 1 - p from the other exponentials would not, but
    // costs a pass and the loss is then as good as 0.
    const float probability = row[targets[n]] / sum;
    const Vec factor = set(p.scale / sum);
    for_vectors(V, [&](std::int64_t v, std::int64_t count) QUIRE_INLINE_LAMBDA {
      store(hn::Mul(load(row + v, count), factor), row + v, count);
    });
    row[targets[n]] = (probability - 1.0f) * p.scale;
  });
}

}  // namespace
}  // namespace quire::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace quire::cpu {

QUIRE_CPU_OP(cross_entropy_forward, CrossEntropyForward)
QUIRE_CPU_OP(cross_entropy_backward, CrossEntropyBackward)

}  // namespace quire::cpu
#endif  // HWY_ONCE

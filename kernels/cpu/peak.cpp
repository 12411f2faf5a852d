#include "kernels/cpu/peak.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>

#include "kernels/cpu/gemm_amx.h"
#include "kernels/cpu/gemm_bf16.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/peak.cpp"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "kernels/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace quire::cpu::HWY_NAMESPACE {
namespace {

// Ten chains: latency 4 × 2 units, and two more for what the out-of-order core makes of them.
constexpr int kChains = 10;

/// Flops done in `rounds` rounds of one multiply-add on each chain; the result is returned so that
/// it is computed.
double fma_rounds(std::int64_t rounds, float* result) {
  // Ten names: an array of them is kept in memory, at four fifths of the rate. Ten values: of equal
  // chains the compiler computes one, and the ceiling came out at 2.5 times what the core has.
  Vec a = set(0.1f), b = set(0.2f), c = set(0.3f), d = set(0.4f), e = set(0.5f);
  Vec f = set(0.6f), g = set(0.7f), h = set(0.8f), i = set(0.9f), j = set(1.1f);
  const Vec x = set(0.999f), y = set(0.001f);
  for (std::int64_t r = 0; r < rounds; ++r) {
    a = hn::MulAdd(a, x, y);
    b = hn::MulAdd(b, x, y);
    c = hn::MulAdd(c, x, y);
    d = hn::MulAdd(d, x, y);
    e = hn::MulAdd(e, x, y);
    f = hn::MulAdd(f, x, y);
    g = hn::MulAdd(g, x, y);
    h = hn::MulAdd(h, x, y);
    i = hn::MulAdd(i, x, y);
    j = hn::MulAdd(j, x, y);
  }
  const Vec all = hn::Add(hn::Add(hn::Add(a, b), hn::Add(c, d)),
                          hn::Add(hn::Add(hn::Add(e, f), hn::Add(g, h)), hn::Add(i, j)));
  *result = sum_lanes(all);
  return 2.0 * static_cast<double>(kChains * rounds * kLanes);
}

float sum_floats(const float* data, std::int64_t n) {
  return sum_terms(n, [&](std::int64_t i, std::int64_t count)
                          QUIRE_INLINE_LAMBDA { return load(data + i, count); });
}

}  // namespace
}  // namespace quire::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace quire::cpu {

HWY_EXPORT(fma_rounds);
HWY_EXPORT(sum_floats);

namespace {

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// The best rate of the passes that fit into `seconds`; a pass returns how much it has done.
template <class Pass>
double best_rate(double seconds, const Pass& pass) {
  double best = 0.0;
  const double start = now();
  do {
    const double begin = now();
    const double done = pass();
    best = std::max(best, done / (now() - begin));
  } while (now() - start < seconds);
  return best;
}

/// Flops a second of `rounds` on all threads, which gives the flops of a call.
template <class Rounds>
double best_flops(ThreadPool& pool, double seconds, const Rounds& rounds) {
  std::atomic<float> sink{0.0f};
  return best_rate(seconds, [&] {
    std::atomic<double> flops{0.0};
    pool.run(pool.threads(), [&](std::int64_t) {
      float result = 0.0f;
      flops.fetch_add(rounds(&result));
      sink.store(result, std::memory_order_relaxed);
    });
    return flops.load();
  });
}

}  // namespace

double measure_fma_peak(ThreadPool& pool, double seconds) {
  return best_flops(pool, seconds, [](float* result) {
    return HWY_DYNAMIC_DISPATCH(fma_rounds)(200'000, result);
  });
}

double measure_bf16_peak(ThreadPool& pool, double seconds) {
  return best_flops(pool, seconds, [](float* result) { return bf16_rounds(200'000, result); });
}

double measure_amx_peak(ThreadPool& pool, double seconds) {
  return best_flops(pool, seconds, [](float* result) { return amx_rounds(10'000, result); });
}

constexpr std::int64_t kReadAtOnce = 1 << 18;  // floats, 1 MiB

ReadBandwidth::ReadBandwidth(ThreadPool& pool, std::size_t bytes)
    : pool_(&pool),
      data_(reinterpret_cast<float*>(block_.at_least(bytes))),
      count_(static_cast<std::int64_t>(bytes / sizeof(float))) {
  pool.run_pieces(count_, kReadAtOnce, [&](std::int64_t first, std::int64_t length) {
    std::fill_n(data_ + first, length, 1.0f);
  });
}

double ReadBandwidth::measure(double seconds) {
  std::atomic<float> sink{0.0f};
  return best_rate(seconds, [&] {
    pool_->run_pieces(count_, kReadAtOnce, [&](std::int64_t first, std::int64_t length) {
      sink.store(HWY_DYNAMIC_DISPATCH(sum_floats)(data_ + first, length),
                 std::memory_order_relaxed);
    });
    return static_cast<double>(count_) * sizeof(float);
  });
}

}  // namespace quire::cpu
#endif

#include "kernels/cpu/peak.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>

#include "kernels/cpu/gemm_bf16.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/peak.cpp"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace quire::cpu {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using F = hn::ScalableTag<float>;
using V = hn::Vec<F>;

// Ten chains: latency 4 × 2 units, and two more for what the out-of-order core makes of them.
constexpr int64_t kChains = 10;

// Flops done in `rounds` rounds of one multiply-add on each chain; the result is returned so that
// it is computed.
double FmaRounds(int64_t rounds, float* result) {
  const F d;
  V a = hn::Set(d, 0.1f), b = a, c = a, e = a, f = a, g = a, h = a, i = a, j = a, k = a;
  const V x = hn::Set(d, 0.999f), y = hn::Set(d, 0.001f);
  for (int64_t r = 0; r < rounds; ++r) {
    a = hn::MulAdd(a, x, y);
    b = hn::MulAdd(b, x, y);
    c = hn::MulAdd(c, x, y);
    e = hn::MulAdd(e, x, y);
    f = hn::MulAdd(f, x, y);
    g = hn::MulAdd(g, x, y);
    h = hn::MulAdd(h, x, y);
    i = hn::MulAdd(i, x, y);
    j = hn::MulAdd(j, x, y);
    k = hn::MulAdd(k, x, y);
  }
  const V all = hn::Add(hn::Add(hn::Add(a, b), hn::Add(c, e)),
                        hn::Add(hn::Add(hn::Add(f, g), hn::Add(h, i)), hn::Add(j, k)));
  *result = hn::GetLane(hn::SumOfLanes(d, all));
  return 2.0 * static_cast<double>(kChains * rounds) * static_cast<double>(hn::Lanes(d));
}

float SumFloats(const float* data, int64_t count) {
  const F d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  V a = hn::Zero(d), b = a, c = a, e = a;
  for (int64_t i = 0; i + 4 * lanes <= count; i += 4 * lanes) {
    a = hn::Add(a, hn::LoadU(d, data + i));
    b = hn::Add(b, hn::LoadU(d, data + i + lanes));
    c = hn::Add(c, hn::LoadU(d, data + i + 2 * lanes));
    e = hn::Add(e, hn::LoadU(d, data + i + 3 * lanes));
  }
  return hn::GetLane(hn::SumOfLanes(d, hn::Add(hn::Add(a, b), hn::Add(c, e))));
}

}  // namespace HWY_NAMESPACE
}  // namespace quire::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace quire::cpu {

HWY_EXPORT(FmaRounds);
HWY_EXPORT(SumFloats);

namespace {

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// Flops a second of `rounds` on all threads, which gives the flops of a call.
template <class Rounds>
double best_rate(ThreadPool& pool, double seconds, const Rounds& rounds) {
  std::atomic<float> sink{0.0f};
  double best = 0.0;
  const double start = now();
  do {
    std::atomic<double> flops{0.0};
    const double begin = now();
    pool.run(pool.threads(), [&](std::int64_t) {
      float result = 0.0f;
      flops.fetch_add(rounds(&result));
      sink.store(result, std::memory_order_relaxed);
    });
    best = std::max(best, flops.load() / (now() - begin));
  } while (now() - start < seconds);
  return best;
}

}  // namespace

double measure_fma_peak(ThreadPool& pool, double seconds) {
  return best_rate(pool, seconds,
                   [](float* result) { return HWY_DYNAMIC_DISPATCH(FmaRounds)(200'000, result); });
}

double measure_bf16_peak(ThreadPool& pool, double seconds) {
  return best_rate(pool, seconds, [](float* result) { return bf16_rounds(200'000, result); });
}

double measure_read_bandwidth(ThreadPool& pool, std::size_t bytes, double seconds) {
  const std::int64_t count = static_cast<std::int64_t>(bytes / sizeof(float));
  GrowingBlock block;
  float* data =
      reinterpret_cast<float*>(block.at_least(static_cast<std::size_t>(count) * sizeof(float)));
  constexpr std::int64_t kPart = 1 << 18;  // 1 MiB
  const std::int64_t parts = std::max<std::int64_t>(count / kPart, 1);
  pool.run(parts, [&](std::int64_t part) {
    std::fill_n(data + part * kPart, std::min(kPart, count - part * kPart), 1.0f);
  });
  std::atomic<float> sink{0.0f};
  double best = 0.0;
  const double start = now();
  do {
    const double begin = now();
    pool.run(parts, [&](std::int64_t part) {
      const std::int64_t length = std::min(kPart, count - part * kPart);
      sink.store(HWY_DYNAMIC_DISPATCH(SumFloats)(data + part * kPart, length),
                 std::memory_order_relaxed);
    });
    best = std::max(best, static_cast<double>(parts * kPart) * sizeof(float) / (now() - begin));
  } while (now() - start < seconds);
  return best;
}

}  // namespace quire::cpu
#endif

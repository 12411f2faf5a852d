#include "engine/training/spike_watch.h"

#include <cmath>
#include <vector>

#include "base/random.h"
#include "tests/support/catch.h"

using namespace quire;

namespace {

/// 2 and a little noise, each value a function of its place.
double level(int i) {
  return 2 + 0.2 * (random_bits({5, 6}, static_cast<std::uint64_t>(i)) % 1000 / 1000.0 - 0.5);
}

}  // namespace

TEST_CASE("the first values have a plain mean and variance, and z is held against them") {
  SpikeWatch watch;
  double sum = 0, squares = 0;
  constexpr int kCount = 40;  // below (W + 1)/2
  for (int i = 0; i < kCount; ++i) {
    const double z = watch.observe(level(i), 6);
    if (i < SpikeWatch::kSilent) CHECK(z == 0);
    sum += level(i);
    squares += level(i) * level(i);
  }
  const double mean = sum / kCount;
  const double variance = squares / kCount - mean * mean;
  // Forty roundings of numbers of order 2, and of order 4 for the squares.
  CHECK(std::abs(watch.mean - mean) <= kCount * 2.3e-16 * 2);
  CHECK(std::abs(watch.variance - variance) <= 2 * kCount * 2.3e-16 * 4);
  CHECK(watch.score(3) == Approx((3 - mean) / std::sqrt(variance)));
}

TEST_CASE("a spike is seen, does not hide the next, and a new level is accepted") {
  SpikeWatch watch;
  int i = 0;
  for (; i < 200; ++i) CHECK(watch.observe(level(i), 6) < 6);
  CHECK(watch.observe(4, 6) > 20);
  CHECK(watch.observe(4, 6) > 6);
  CHECK(watch.observe(level(i), 6) < 6);
  CHECK(watch.observe(-4, 6) < 0);  // better than ever is no spike
  int warnings = 0;
  for (; i < 600; ++i) warnings += watch.observe(level(i) + 2, 6) > 6 ? 1 : 0;
  CHECK(warnings > 0);
  CHECK(warnings < SpikeWatch::kWindow);
  CHECK(watch.score(4) < 1);
}

TEST_CASE("a number that has come to rest raises no alarm over its last digits") {
  SpikeWatch watch;
  for (int i = 0; i < 100; ++i) watch.observe(3.0, 6);
  CHECK(watch.score(3.0 + 1e-9) < 1e-6);
  CHECK(watch.score(3.3) == Approx(10));  // a hundredth of the mean stands for the deviation
  SpikeWatch zero;
  for (int i = 0; i < 100; ++i) zero.observe(0.0, 6);
  CHECK(zero.score(1) == 0);
}

// A watch on a number that should fall or stay where it is, such as a loss or a gradient's norm.
//
// Each value x is held against the mean and the deviation of those before it:
//   z = (x - mean) / max(deviation, |mean|/100)
// The hundredth keeps a loss that has come to rest from raising alarms over its noise. Then x is
// counted in, with weight a = max(1/n, 2/(W + 1)) as the n-th value: the first (W + 1)/2 = 50 of
// them have a plain mean and variance, later ones an exponential mean over about W = 100 steps:
//   d = x - mean;  mean += a·d;  variance = (1 - a)·(variance + a·d²)
// What is further out than the threshold, to either side, counts as that many deviations only. So a
// spike does not hide the next one, and a new level is accepted in time.
#pragma once

#include <cstdint>

namespace quire {

struct SpikeWatch {
  static constexpr int kWindow = 100;  ///< W, in steps
  static constexpr int kSilent = 20;   ///< no value is called a spike before so many were counted

  std::int64_t count = 0;
  double mean = 0, variance = 0;

  /// z of a value before it is counted in: 0 during the first kSilent.
  double score(double value) const;
  /// Counts a finite value in, and returns its z.
  double observe(double value, double threshold);

  bool operator==(const SpikeWatch&) const = default;
};

}  // namespace quire

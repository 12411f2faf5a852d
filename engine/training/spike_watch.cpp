#include "engine/training/spike_watch.h"

#include <algorithm>
#include <cmath>

namespace quire {
namespace {

double deviation(const SpikeWatch& watch) {
  return std::max(std::sqrt(watch.variance), std::abs(watch.mean) / 100);
}

}  // namespace

double SpikeWatch::score(double value) const {
  if (count < kSilent || deviation(*this) == 0) return 0;
  return (value - mean) / deviation(*this);
}

double SpikeWatch::observe(double value, double threshold) {
  const double z = score(value);
  const double counted =
      std::abs(z) > threshold ? mean + std::copysign(threshold, z) * deviation(*this) : value;
  ++count;
  const double weight = std::max(1.0 / count, 2.0 / (kWindow + 1));
  const double d = counted - mean;
  mean += weight * d;
  variance = (1 - weight) * (variance + weight * d * d);
  return z;
}

}  // namespace quire

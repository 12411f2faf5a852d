// Seeded test data, the same on every machine: from the counter-based generator of
// base/random.h.
#pragma once

#include <cmath>
#include <cstdint>
#include <map>
#include <numbers>
#include <vector>

#include "base/random.h"

namespace quire::test {

inline std::vector<float> uniform(std::int64_t count, std::uint64_t seed, float low = -1.0f,
                                  float high = 1.0f) {
  std::vector<float> values(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = low + (high - low) * random_uniform({seed, 1}, i);
  }
  return values;
}

/// Normal by Box and Muller's method. What was drawn is kept, as a test asks for the same numbers for each
/// device and type: to draw them was half of what the products' tests took.
inline std::vector<float> normal(std::int64_t count, std::uint64_t seed, double mean = 0.0,
                                 double deviation = 1.0) {
  struct Drawn {
    double radius, cosine;
  };
  thread_local std::map<std::uint64_t, std::vector<Drawn>> drawn;
  std::vector<Drawn>& known = drawn[seed];
  std::vector<float> values(static_cast<std::size_t>(count));
  for (std::size_t i = known.size(); i < values.size(); ++i) {
    const double radius = std::sqrt(-2.0 * std::log(1.0 - random_uniform({seed, 2}, 2 * i)));
    const double angle = 2.0 * std::numbers::pi * random_uniform({seed, 2}, 2 * i + 1);
    known.push_back({radius, std::cos(angle)});
  }
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = static_cast<float>(mean + deviation * known[i].radius * known[i].cosine);
  }
  return values;
}

/// Integers in [0, limit).
inline std::vector<std::int32_t> integers(std::int64_t count, std::uint64_t seed,
                                          std::int64_t limit) {
  std::vector<std::int32_t> values(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] =
        static_cast<std::int32_t>(random_bits({seed, 3}, i) % static_cast<std::uint32_t>(limit));
  }
  return values;
}

}  // namespace quire::test

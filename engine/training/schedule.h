// Learning-rate schedules: a factor on the base rate as a function of the step.
//
// As in transformers' optimization.py, steps t count from 0, and a warm-up of w steps climbs as
// t/w: the first step of a warm-up moves nothing. After it, with p = (t - w)/(T - w):
//   constant  1
//   linear    max(0, 1 - p)
//   cosine    max(0, (1 + cos(2·pi·cycles·p))/2), cycles = 1/2: half a wave from 1 to 0
// A minimum ratio r turns the factor f after the warm-up into f·(1 - r) + r.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace quire {

struct Schedule {
  enum class Shape { constant, linear, cosine };

  Shape shape = Shape::linear;
  std::int64_t total_steps = 1;   ///< T
  std::int64_t warmup_steps = 0;  ///< w
  double min_ratio = 0.0;         ///< r, in [0, 1]
  double cycles = 0.5;            ///< waves of a cosine

  /// What the base rate is multiplied with in step t, from 0.
  double factor(std::int64_t t) const;

  /// "constant", "linear", "cosine" (and transformers' "constant_with_warmup"); throws Error(usage)
  /// for others.
  static Shape shape_from_name(std::string_view name);
  /// Steps of warm-up: a share of all steps, rounded up, when `warmup` is below 1.
  static std::int64_t warmup_count(double warmup, std::int64_t total_steps);
};

}  // namespace quire

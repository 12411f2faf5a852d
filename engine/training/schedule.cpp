#include "engine/training/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "base/error.h"

namespace quire {

double Schedule::factor(std::int64_t t) const {
  if (t < warmup_steps) {
    return static_cast<double>(t) / static_cast<double>(std::max<std::int64_t>(1, warmup_steps));
  }
  if (shape == Shape::constant) return 1.0;
  const double steps = static_cast<double>(std::max<std::int64_t>(1, total_steps - warmup_steps));
  double f = 0.0;
  if (shape == Shape::linear) {
    f = std::max(0.0, static_cast<double>(total_steps - t) / steps);
  } else {
    const double progress = static_cast<double>(t - warmup_steps) / steps;
    f = std::max(0.0, 0.5 * (1.0 + std::cos(std::numbers::pi * cycles * 2.0 * progress)));
  }
  return f * (1.0 - min_ratio) + min_ratio;
}

Schedule::Shape Schedule::shape_from_name(std::string_view name) {
  if (name == "constant" || name == "constant_with_warmup") return Shape::constant;
  if (name == "linear") return Shape::linear;
  if (name == "cosine") return Shape::cosine;
  throw Error(Fault::usage, "there is no --lr-scheduler-type '" + std::string(name) + "'",
              {"types: linear, cosine, constant, constant_with_warmup"});
}

std::int64_t Schedule::warmup_count(double warmup, std::int64_t total_steps) {
  if (warmup >= 1.0) return static_cast<std::int64_t>(warmup);
  return static_cast<std::int64_t>(std::ceil(warmup * static_cast<double>(total_steps)));
}

}  // namespace quire

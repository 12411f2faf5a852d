// Learning-rate schedules: a factor on the base rate as a function of the step.
//
// As in transformers' optimization.py, steps t count from 0, and a warm-up of w steps climbs as
// t/w: the first step of a warm-up moves nothing. After it, with p = (t - w)/(T - w):
//   constant              1
//   linear                max(0, 1 - p)
//   cosine                max(0, (1 + cos(2·pi·cycles·p))/2), cycles = 1/2: half a wave from 1 to 0
//   cosine_with_restarts  (1 + cos(pi·frac(cycles·p)))/2, and 0 from T on
//   polynomial            max(0, 1 - p)^power
//   inverse_sqrt          1/sqrt((t - w + timescale)/timescale)
//   warmup_stable_decay   1 for the stable steps, then with q = 0 … 1 through the decay one of
//                         1 - q, (1 + cos(2·pi·cycles·q))/2 and 1 - sqrt(q), and 0 from there on
// A minimum ratio r turns the factor f after the warm-up into f·(1 - r) + r; warmup_stable_decay
// starts its warm-up at r too.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace quire {

struct Schedule {
  enum class Shape {
    constant,
    linear,
    cosine,
    cosine_with_restarts,
    polynomial,
    inverse_sqrt,
    warmup_stable_decay,
  };
  enum class Curve { linear, cosine, one_minus_sqrt };

  Shape shape = Shape::linear;
  std::int64_t total_steps = 1;   ///< T
  std::int64_t warmup_steps = 0;  ///< w
  double min_ratio = 0.0;         ///< r, in [0, 1]
  double cycles = 0.5;            ///< waves of a cosine; times that one with restarts falls
  double power = 1.0;             ///< of a polynomial
  double timescale = 10'000;      ///< of an inverse square root, in steps
  std::int64_t stable_steps = 0, decay_steps = 0;  ///< of warmup_stable_decay
  Curve warmup_curve = Curve::linear, decay_curve = Curve::cosine;

  /// What the base rate is multiplied with in step t, from 0; between two steps, too (run_plan.h).
  double factor(double t) const;

  /// "cosine", "warmup_stable_decay" …, and transformers' "constant_with_warmup" (constant) and
  /// "cosine_with_min_lr" (cosine); throws Error(usage) for others.
  static Shape shape_from_name(std::string_view name);
  /// Steps of warm-up or decay: a share of all steps, rounded up, when `steps` is below 1.
  static std::int64_t step_count(double steps, std::int64_t total_steps);

 private:
  double after_warmup(double t) const;  ///< before the minimum ratio
};

/// What shapes one type of schedule and not the others: transformers' lr_scheduler_kwargs.
struct ScheduleArguments {
  double min_lr = 0;  ///< where a decay ends; or as a share of the base rate:
  double min_lr_ratio = 0;
  double num_cycles = 0;  ///< 0: the type's own, 0.5 for a cosine and 1 with restarts
  double power = 1;
  double lr_end = 1e-7;                ///< where a polynomial ends
  double timescale = 0;                ///< 0: the steps of the warm-up, or 10,000 without one
  std::int64_t num_stable_steps = -1;  ///< -1: what warm-up and decay leave of all steps
  double num_decay_steps = 0;          ///< below 1: a share of all steps, rounded up
  std::string warmup_type = "linear", decay_type = "cosine";  ///< or "1-sqrt"

  /// Calls visit(name, value) for those that are set, that is, not the default.
  template <class Visit>
  void each_set(const Visit& visit) const {
    const ScheduleArguments unset;
    const auto look_at = [&](const char* name, const auto& value, const auto& default_value) {
      if (value != default_value) visit(name, value);
    };
    look_at("min_lr", min_lr, unset.min_lr);
    look_at("min_lr_ratio", min_lr_ratio, unset.min_lr_ratio);
    look_at("num_cycles", num_cycles, unset.num_cycles);
    look_at("power", power, unset.power);
    look_at("lr_end", lr_end, unset.lr_end);
    look_at("timescale", timescale, unset.timescale);
    look_at("num_stable_steps", num_stable_steps, unset.num_stable_steps);
    look_at("num_decay_steps", num_decay_steps, unset.num_decay_steps);
    look_at("warmup_type", warmup_type, unset.warmup_type);
    look_at("decay_type", decay_type, unset.decay_type);
  }
  /// Throws Error(usage) for a value outside its range, and for one that is set though schedules of
  /// this type have no use for it.
  void check(std::string_view type, double learning_rate) const;
};

struct ScheduleOptions {
  std::string type = "linear";
  double learning_rate = 5e-5;
  std::int64_t total_steps = 1;
  double warmup_steps = 0;  ///< below 1: a share of all steps, rounded up
  ScheduleArguments arguments;
};

/// Throws Error(usage) where warm-up, stable steps and decay are longer than the run.
Schedule make_schedule(const ScheduleOptions& options);

}  // namespace quire

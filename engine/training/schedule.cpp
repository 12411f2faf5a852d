#include "engine/training/schedule.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <optional>
#include <vector>

#include "base/error.h"

namespace quire {
namespace {

using Curve = Schedule::Curve;

struct Type {
  std::string_view name;
  Schedule::Shape shape;
  std::vector<std::string_view> arguments;  // those it has a use for
};

const std::array kTypes = {
    Type{"linear", Schedule::Shape::linear, {"min_lr", "min_lr_ratio"}},
    Type{"cosine", Schedule::Shape::cosine, {"min_lr", "min_lr_ratio", "num_cycles"}},
    Type{"cosine_with_min_lr", Schedule::Shape::cosine, {"min_lr", "min_lr_ratio", "num_cycles"}},
    Type{"cosine_with_restarts",
         Schedule::Shape::cosine_with_restarts,
         {"min_lr", "min_lr_ratio", "num_cycles"}},
    Type{"polynomial", Schedule::Shape::polynomial, {"power", "lr_end"}},
    Type{"inverse_sqrt", Schedule::Shape::inverse_sqrt, {"timescale"}},
    Type{"warmup_stable_decay",
         Schedule::Shape::warmup_stable_decay,
         {"min_lr", "min_lr_ratio", "num_cycles", "num_stable_steps", "num_decay_steps",
          "warmup_type", "decay_type"}},
    Type{"constant", Schedule::Shape::constant, {}},
    Type{"constant_with_warmup", Schedule::Shape::constant, {}},
};

const Type& type_named(std::string_view name) {
  std::string known;
  for (const Type& type : kTypes) {
    if (type.name == name) return type;
    known += (known.empty() ? "" : ", ") + std::string(type.name);
  }
  throw Error(Fault::usage, "there is no `lr_scheduler_type` '"_named + std::string(name) + "'",
              {"types: " + known});
}

std::optional<Curve> curve_named(std::string_view name) {
  if (name == "linear") return Curve::linear;
  if (name == "cosine") return Curve::cosine;
  if (name == "1-sqrt") return Curve::one_minus_sqrt;
  return std::nullopt;
}

void require_argument(bool holds, const char* argument, const auto& value,
                      const std::string& allowed) {
  if (holds) return;
  throw Error(Fault::usage, fmt::format("{} is {}", field_name(argument), value),
              {fmt::format("it must be {}", allowed)});
}

double positive(std::int64_t steps) {
  return std::max<std::int64_t>(1, steps);
}

/// A whole wave for one cycle: half of one falls from 1 to 0.
double wave(double cycles, double progress) {
  return 0.5 * (1.0 + std::cos(std::numbers::pi * cycles * 2.0 * progress));
}

double climb(Curve curve, double progress) {
  if (curve == Curve::cosine) return 0.5 * (1.0 - std::cos(std::numbers::pi * progress));
  if (curve == Curve::one_minus_sqrt) return 1.0 - std::sqrt(1.0 - progress);
  return progress;
}

double fall(Curve curve, double cycles, double progress) {
  if (curve == Curve::cosine) return wave(cycles, progress);
  if (curve == Curve::one_minus_sqrt) return 1.0 - std::sqrt(progress);
  return 1.0 - progress;
}

}  // namespace

double Schedule::after_warmup(double t) const {
  const double after = t - warmup_steps, length = positive(total_steps - warmup_steps);
  const double progress = after / length;
  switch (shape) {
    case Schedule::Shape::constant:
      return 1.0;
    case Schedule::Shape::linear:
      return (total_steps - t) / length;
    case Schedule::Shape::cosine:
      return wave(cycles, progress);
    case Schedule::Shape::cosine_with_restarts:
      return progress < 1.0 ? wave(0.5, std::fmod(cycles * progress, 1.0)) : 0.0;
    case Schedule::Shape::polynomial:
      return std::pow(std::max(0.0, 1.0 - progress), power);
    case Schedule::Shape::inverse_sqrt:
      return 1.0 / std::sqrt((after + timescale) / timescale);
    case Schedule::Shape::warmup_stable_decay:
      break;
  }
  if (after >= stable_steps + decay_steps) return 0.0;
  return fall(decay_curve, cycles, (after - stable_steps) / positive(decay_steps));
}

double Schedule::factor(double t) const {
  const auto above_minimum = [&](double f) { return f * (1.0 - min_ratio) + min_ratio; };
  const bool stable = shape == Schedule::Shape::warmup_stable_decay;
  if (t < warmup_steps) {
    const double f = climb(warmup_curve, t / positive(warmup_steps));
    return stable ? above_minimum(f) : f;
  }
  if (stable && t - warmup_steps < stable_steps) return 1.0;
  return above_minimum(std::max(0.0, after_warmup(t)));
}

Schedule::Shape Schedule::shape_from_name(std::string_view name) {
  return type_named(name).shape;
}

std::int64_t Schedule::step_count(double steps, std::int64_t total_steps) {
  if (steps >= 1.0) return static_cast<std::int64_t>(steps);
  return static_cast<std::int64_t>(std::ceil(steps * total_steps));
}

void ScheduleArguments::check(std::string_view type_name, double learning_rate) const {
  const Type& type = type_named(type_name);
  const auto finite_from = [](const char* argument, double value, double least) {
    require_argument(std::isfinite(value) && value >= least, argument, value,
                     fmt::format("{} or more", least));
  };
  finite_from("min_lr", min_lr, 0);
  require_argument(min_lr_ratio >= 0 && min_lr_ratio <= 1, "min_lr_ratio", min_lr_ratio,
                   "from 0 to 1");
  finite_from("num_cycles", num_cycles, 0);
  finite_from("power", power, 0);
  finite_from("lr_end", lr_end, 0);
  finite_from("timescale", timescale, 0);
  finite_from("num_decay_steps", num_decay_steps, 0);
  require_argument(num_stable_steps >= -1, "num_stable_steps", num_stable_steps,
                   "0 or more, or -1 for what warm-up and decay leave");
  require_argument(curve_named(warmup_type).has_value(), "warmup_type", warmup_type,
                   "linear, cosine or 1-sqrt");
  require_argument(curve_named(decay_type).has_value(), "decay_type", decay_type,
                   "linear, cosine or 1-sqrt");

  each_set([&](std::string_view argument, const auto& /*value*/) {
    if (std::count(type.arguments.begin(), type.arguments.end(), argument) > 0) return;
    std::string takes;
    for (const std::string_view name : type.arguments) takes += " " + field_name(name);
    throw Error(
        Fault::usage,
        field_name(argument) + " does not go with `lr_scheduler_type` "_named +
            std::string(type.name),
        {takes.empty() ? "that schedule has no such options" : "that schedule takes" + takes});
  });
  if (min_lr > 0 && min_lr_ratio > 0) {
    throw Error(Fault::usage, "`min_lr` and `min_lr_ratio` are two words for one thing"_named, {},
                "one of the two");
  }
  const auto below_peak = [&](const char* argument, double value) {
    require_argument(value <= learning_rate, argument, value,
                     fmt::format("at most the learning rate, {}", learning_rate));
  };
  if (min_lr > 0) below_peak("min_lr", min_lr);
  if (type.shape == Schedule::Shape::polynomial) below_peak("lr_end", lr_end);
  if (type.name == "cosine_with_min_lr" && min_lr == 0 && min_lr_ratio == 0) {
    throw Error(Fault::usage, "`lr_scheduler_type` cosine_with_min_lr needs its minimum"_named, {},
                "`min_lr` or `min_lr_ratio`"_named);
  }
  if (type.shape == Schedule::Shape::warmup_stable_decay && num_decay_steps == 0) {
    throw Error(Fault::usage,
                "`lr_scheduler_type` warmup_stable_decay needs the decay's length"_named, {},
                "`num_decay_steps` 0.1, the last tenth"_named);
  }
}

Schedule make_schedule(const ScheduleOptions& options) {
  const ScheduleArguments& a = options.arguments;
  Schedule schedule{.shape = Schedule::shape_from_name(options.type),
                    .total_steps = options.total_steps,
                    .warmup_steps = Schedule::step_count(options.warmup_steps, options.total_steps),
                    .min_ratio = a.min_lr > 0 ? a.min_lr / options.learning_rate : a.min_lr_ratio,
                    .power = a.power,
                    .warmup_curve = curve_named(a.warmup_type).value(),
                    .decay_curve = curve_named(a.decay_type).value()};
  schedule.cycles = schedule.shape == Schedule::Shape::cosine_with_restarts ? 1.0 : 0.5;
  if (a.num_cycles > 0) schedule.cycles = a.num_cycles;
  if (schedule.shape == Schedule::Shape::polynomial && options.learning_rate > 0) {
    schedule.min_ratio = a.lr_end / options.learning_rate;
  }
  if (a.timescale > 0) {
    schedule.timescale = a.timescale;
  } else if (schedule.warmup_steps > 0) {
    schedule.timescale = schedule.warmup_steps;
  }
  if (schedule.shape == Schedule::Shape::warmup_stable_decay) {
    const std::int64_t warmup = schedule.warmup_steps, total = options.total_steps;
    schedule.decay_steps = Schedule::step_count(a.num_decay_steps, total);
    schedule.stable_steps =
        a.num_stable_steps >= 0 ? a.num_stable_steps : total - warmup - schedule.decay_steps;
    if (schedule.stable_steps < 0) {
      throw Error(Fault::usage, "warm-up and decay are longer than the run",
                  {fmt::format("{} steps of warm-up and {} of decay, {} in all", warmup,
                               schedule.decay_steps, total)},
                  "`num_decay_steps` 0.1, the last tenth"_named);
    }
  }
  return schedule;
}

}  // namespace quire

#include "engine/training/run_plan.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>

namespace quire {

double StepPlan::place(std::int64_t t, std::int64_t asked) const {
  if (steps == 0) return t;
  const double left = asked - anchor_place;
  return anchor_place + (t - anchor) * left / (steps - anchor);
}

StepPlan StepPlan::fitted(std::int64_t now, std::int64_t left, std::int64_t asked) const {
  const double here = place(now, asked);
  const auto most = static_cast<std::int64_t>(std::ceil(asked - here));
  const std::int64_t rest = std::clamp<std::int64_t>(left, 1, std::max<std::int64_t>(most, 1));
  const std::int64_t planned = total(asked) - now;
  if (20 * std::abs(rest - planned) <= planned) return *this;
  return {.steps = now + rest, .anchor = now, .anchor_place = here};
}

std::int64_t RunPace::steps_within(double seconds, double eval_every) const {
  const double each = step + (eval_every > 0 ? evaluation / eval_every : 0);
  const double fit = (seconds - evaluation) / each;
  return static_cast<std::int64_t>(std::clamp(fit, 0.0, 0x1p53));
}

std::int64_t EvalCost::evaluations() const {
  return 2 + (epoch_steps > 0 ? (steps - 1) / epoch_steps : 0);
}

EvalPlan bounded(const EvalCost& cost, double share) {
  constexpr std::int64_t kEnough = 5;  // the first, the last, and what shows where it turned
  const std::int64_t asked = cost.evaluations();
  const double training = 3 * cost.step_tokens * cost.steps;
  const double allowed = training * share / (1 - share);
  const double once = cost.row_tokens * cost.rows;
  if (once * asked <= allowed) return {};
  const std::int64_t times =
      std::max(std::min(asked, kEnough), static_cast<std::int64_t>(allowed / once));
  EvalPlan plan;
  if (times < asked) plan.every = (cost.steps + times - 2) / (times - 1);
  if (once * times > allowed) {
    const double rows = allowed / (cost.row_tokens * times);
    plan.rows = std::max<std::int64_t>(1, static_cast<std::int64_t>(rows));
  }
  return plan;
}

}  // namespace quire

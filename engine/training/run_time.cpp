#include <algorithm>
#include <array>
#include <cmath>

#include "engine/training/run.h"

namespace quire {

using Clock = std::chrono::steady_clock;

namespace {

constexpr double kUsedOfTime =
    0.97;  // of max_seconds; the rest is for saving, and steps that are slower

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

}  // namespace

double Run::seconds_since_begun() const {
  return seconds_since(times_.begun);
}

bool Run::time_is_up() const {
  return config_.max_seconds > 0 && ranks_.any(seconds_since_begun() >= config_.max_seconds);
}

std::int64_t Run::eval_row_count() const {
  const std::int64_t planned = state_.eval_plan.rows;
  return planned > 0 ? std::min(planned, eval_rows_.size()) : eval_rows_.size();
}

double Run::elapsed() const {
  std::array<double, 1> seconds = {seconds_since_begun()};
  ranks_.sum(seconds);
  return seconds[0] / ranks_.size();
}

RunPace Run::rehearse() {
  // A row, the same again with warm memory, a micro-batch: until one takes a noticeable time.
  constexpr double kNoticeable = 1.0;  // seconds
  const std::int64_t batch =
      std::min<std::int64_t>(config_.per_device_train_batch_size, rows_.size());
  double row_seconds = 0;
  std::array<double, 2> pace = {};  // of a micro-batch, of an update
  for (const std::int64_t count : {std::int64_t{1}, std::int64_t{1}, batch}) {
    if (row_seconds * count > kNoticeable) break;
    std::vector<std::int64_t> which(count);
    for (std::size_t i = 0; i < which.size(); ++i) {
      which[i] = i * rows_.size() / count;
    }
    const Batch rows = rows_.gather(which);
    const Clock::time_point start = Clock::now();
    network_->zero_gradients();
    network_->forward_backward(rows.view(), 1.0f, config_.seed);
    model_.device.synchronize();
    row_seconds = seconds_since(start) / count;
  }
  pace[0] = row_seconds * config_.per_device_train_batch_size;
  const Clock::time_point start = Clock::now();
  optimizer_->squared_norm();
  // AdamW reads and writes 28 bytes a parameter where its norm reads 4.
  pace[1] = 8 * seconds_since(start);
  network_->zero_gradients();
  ranks_.sum(pace);
  const double step = (config_.gradient_accumulation_steps * pace[0] + pace[1]) / ranks_.size();
  // Forward alone, of forward and twice that backward.
  const double batches = static_cast<double>(eval_rows_.size()) / config_.micro_batch_rows();
  return {.step = step, .evaluation = pace[0] / ranks_.size() / 3 * batches};
}

EvalCost Run::eval_cost(std::int64_t steps) const {
  const double rows = rows_.size();
  const double step_rows = std::min(
      rows, static_cast<double>(config_.micro_batch_rows() * config_.gradient_accumulation_steps));
  TrainingConfig epoch = config_;
  epoch.max_steps = -1;
  epoch.num_train_epochs = 1;
  return {
      .steps = steps,
      .step_tokens = (rows_.records().ids.size() - rows_.unused_tokens()) / rows * step_rows,
      .epoch_steps = config_.eval_steps > 0 ? config_.eval_steps : total_steps(epoch, rows_.size()),
      .rows = eval_rows_.size(),
      .row_tokens =
          static_cast<double>(eval_rows_.records().ids.size() - eval_rows_.unused_tokens()) /
          eval_rows_.size()};
}

EvalPlan Run::validation_of(std::int64_t steps) const {
  if (!has_validation() || config_.eval_steps > 0 || config_.eval_share <= 0) return {};
  return bounded(eval_cost(steps), config_.eval_share);
}

RunPace Run::with_evaluations(RunPace pace, const EvalPlan& evaluations) const {
  if (evaluations.rows > 0) {
    pace.evaluation *= static_cast<double>(evaluations.rows) / eval_rows_.size();
  }
  return pace;
}

double Run::eval_every(const EvalPlan& evaluations) const {
  if (!has_validation()) return 0;
  if (config_.eval_steps == 0 && evaluations.every > 0) {
    return evaluations.every;
  }
  return eval_cost(1).epoch_steps;
}

void Run::plan() {
  EvalPlan evaluations = state_.eval_plan;
  const bool fresh = state_.step == 0;  // else it validates as it did before
  if (fresh) evaluations = validation_of(total_steps_);
  RunPace pace;
  if (config_.estimate || config_.fit_to_time) pace = rehearse();
  if (config_.fit_to_time) {
    const double left = kUsedOfTime * config_.max_seconds - elapsed();
    StepPlan fitted = state_.plan;
    for (int round = 0; round < 2; ++round) {  // what validation takes follows from the steps
      fitted = state_.plan.fitted(
          state_.step,
          with_evaluations(pace, evaluations).steps_within(left, eval_every(evaluations)),
          asked_steps_);
      if (fresh) evaluations = validation_of(fitted.total(asked_steps_));
    }
    state_.plan = fitted;
    total_steps_ = fitted.total(asked_steps_);
  }
  state_.eval_plan = evaluations;
  times_.planned = elapsed();
  times_.planned_step = state_.step;
  if (!config_.estimate || !callbacks_.on_estimate || finished()) return;

  const std::int64_t steps = total_steps_ - state_.step;
  TrainingEstimate estimate{.step_seconds = pace.step,
                            .steps = steps,
                            .asked_steps = asked_steps_ - state_.step,
                            .held_out_rows = eval_rows_.size()};
  if (has_validation()) {
    const double every = eval_every(evaluations);
    const auto before = [&](std::int64_t step) { return static_cast<std::int64_t>(step / every); };
    estimate.evaluations = fresh + before(total_steps_ - 1) - before(state_.step) + 1;
    estimate.evaluation_seconds = with_evaluations(pace, evaluations).evaluation;
    estimate.eval_rows = eval_row_count();
  }
  estimate.seconds =
      steps * estimate.step_seconds + estimate.evaluations * estimate.evaluation_seconds;
  callbacks_.on_estimate(estimate);
}

void Run::plan_again() {
  if (!config_.fit_to_time || finished()) return;
  std::array<double, 3> seconds = {seconds_since_begun(), times_.evaluated, times_.last_evaluation};
  ranks_.sum(seconds);
  for (double& s : seconds) s /= ranks_.size();
  const double since = seconds[0] - times_.planned;
  if (since < config_.max_seconds / 10) return;
  const RunPace pace{.step = (since - seconds[1]) / (state_.step - times_.planned_step),
                     .evaluation = seconds[2]};
  const double left = kUsedOfTime * config_.max_seconds - seconds[0];
  const StepPlan fitted = state_.plan.fitted(
      state_.step, pace.steps_within(left, eval_every(state_.eval_plan)), asked_steps_);
  times_.planned = seconds[0];
  times_.planned_step = state_.step;
  times_.evaluated = 0;
  if (fitted == state_.plan) return;
  state_.plan = fitted;
  total_steps_ = fitted.total(asked_steps_);
}

}  // namespace quire

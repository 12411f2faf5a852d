#include "engine/training/reporter.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "engine/training/log_files.h"

namespace quire {

Reporter::Reporter(const TrainingConfig& config, const TrainingCallbacks& callbacks,
                   bool first_rank)
    : config_(config), callbacks_(callbacks), peak_flops_(config.peak_flops) {
  if (!first_rank) return;
  if (config_.write_jsonl) logs_.push_back(std::make_shared<JsonlLog>());
  if (config_.write_csv) logs_.push_back(std::make_shared<CsvLog>());
  logs_.insert(logs_.end(), callbacks_.logs.begin(), callbacks_.logs.end());
}

void Reporter::begin(std::int64_t resumed_step) {
  for (const auto& log : logs_) log->begin(config_.output_dir, resumed_step);
}

void Reporter::note(const std::string& line) const {
  if (callbacks_.on_note) callbacks_.on_note(line);
}

void Reporter::warn(std::int64_t step, const std::string& line) {
  for (const auto& log : logs_) log->warning(step, line);
  if (callbacks_.on_warning) callbacks_.on_warning(line);
}

double Reporter::mfu(const Pace& pace) {
  if (peak_flops_ <= 0) return TrainerState::kNone;
  peak_flops_ = std::max(peak_flops_, pace.flops / pace.seconds);
  return pace.flops / pace.seconds / peak_flops_;
}

void Reporter::step(TrainerState& state, std::int64_t total_steps, const StepResult& result) {
  const Pace& pace = result.pace;
  since_log_.add(pace);
  recent_step_seconds_ =
      recent_step_seconds_ == 0 ? pace.seconds : 0.9 * recent_step_seconds_ + 0.1 * pace.seconds;
  TrainingProgress progress{.step = state.step,
                            .total_steps = total_steps,
                            .epoch = state.epoch,
                            .loss = result.loss,
                            .grad_norm = result.norm,
                            .learning_rate = result.learning_rate,
                            .tokens = state.tokens,
                            .tokens_per_second = pace.tokens_per_second(),
                            .seconds_left = recent_step_seconds_ * (total_steps - state.step),
                            .mfu = mfu(pace),
                            .eval_loss = state.eval_loss};
  if (callbacks_.on_step) callbacks_.on_step(progress);
  if (state.step % config_.logging_steps != 0 && state.step != total_steps) return;
  progress.loss = state.loss_steps > 0 ? state.loss_sum / state.loss_steps : TrainerState::kNone;
  progress.tokens_per_second = since_log_.tokens_per_second();
  progress.mfu = mfu(since_log_);
  for (const auto& log : logs_) log->train(progress);
  if (callbacks_.on_log) callbacks_.on_log(progress);
  state.loss_sum = 0;
  state.loss_steps = 0;
  since_log_ = {};
}

void Reporter::watch(TrainerState& state, double loss, double norm) {
  if (config_.spike_z <= 0) return;
  const auto observe = [&](const char* what, SpikeWatch& watch, double value) {
    const SpikeWatch before = watch;
    const double z = watch.observe(value, config_.spike_z);
    if (z <= config_.spike_z) return;
    warn(state.step,
         fmt::format("step {}: the {} is {:.4g}, {:.1f} deviations above the {:.4g} of the steps "
                     "before",
                     state.step, what, value, z, before.mean));
  };
  observe("loss", state.loss_watch, loss);
  observe("gradient norm", state.norm_watch, norm);
}

void Reporter::eval(std::int64_t step, double loss) {
  for (const auto& log : logs_) log->eval(step, loss);
  if (callbacks_.on_eval) callbacks_.on_eval(step, loss);
}

void Reporter::samples(std::int64_t step, const std::vector<TextSample>& texts) {
  for (const TextSample& text : texts) {
    for (const auto& log : logs_) log->sample(step, text);
  }
}

void Reporter::end(RunEnd how) {
  for (const auto& log : logs_) log->end(how);
}

void Reporter::discard() {
  for (const auto& log : logs_) log->discard();
}

}  // namespace quire

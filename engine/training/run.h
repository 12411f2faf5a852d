// A training run in the making, the work of train(), in three files: run.cpp has the steps,
// run_folder.cpp what they leave on the disk, run_time.cpp what they may take.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/training/checkpoint.h"
#include "engine/training/optimizer.h"
#include "engine/training/output_folder.h"
#include "engine/training/run_plan.h"
#include "engine/training/schedule.h"
#include "engine/training/trainer.h"

namespace quire {

/// Seconds of steps and the tokens in them; what happens between steps is not counted.
struct Pace {
  double seconds = 0, flops = 0;
  std::int64_t tokens = 0;
  double tokens_per_second() const { return static_cast<double>(tokens) / seconds; }
  void add(const Pace& other) {
    seconds += other.seconds;
    flops += other.flops;
    tokens += other.tokens;
  }
};

/// The work of train().
class Run {
 public:
  Run(Device& device, const Gpt2Config& model, const Parameters& parameters, const Rows& rows,
      const Rows& validation, const TrainingConfig& config, const TrainingCallbacks& callbacks,
      Ranks& ranks);

  TrainingResult run();

 private:
  /// Locks and clears the folder and finds what to go on from; that is empty for a fresh run.
  std::filesystem::path prepare_folder();
  void check_ranks() const;
  void restore(const std::filesystem::path& checkpoint);
  void check_early_stopping() const;
  /// Evaluation and checkpoint where the current step asks for them. False: to be stopped.
  bool settle();
  /// All of them, evaluations and checkpoints between. False: it was asked to stop.
  bool take_steps();
  /// What is left to do when `lost` has ended: saves what can be, and says how to go on.
  [[noreturn]] void go_without(const PeerLost& lost);
  void step();
  void skip(double loss, double norm);
  void watch(double loss, double norm);
  void report(double loss, double norm, double learning_rate);
  bool evaluate();
  /// Before the first step: what it will take, and where that is too much, how much less it does.
  void plan();
  /// The time of some rows, as a step takes them. Changes nothing but gradients.
  RunPace rehearse();
  EvalCost eval_cost(std::int64_t steps) const;
  /// The rows and the times of validation, for a run of so many steps.
  EvalPlan validation_of(std::int64_t steps) const;
  /// A pace whose evaluations are of all rows, with those of the plan.
  RunPace with_evaluations(RunPace pace, const EvalPlan& evaluations) const;
  /// Steps between evaluations, of epochs the whole ones; 0: there is nothing to validate on.
  double eval_every(const EvalPlan& evaluations) const;
  /// Seconds since the run began, the same on all ranks.
  double elapsed() const;
  /// Plans for the time that is left, where a tenth of it is over since that was done.
  void plan_again();
  void sample();
  void save();
  void write_checkpoint(const AdamwOptimizer::HostMoments& moments);
  /// With other algorithms or kernels a continuation may have other bits, which it then says.
  void note_tuning();
  void save_result();
  void rotate();
  /// A checkpoint of the current step, unless it has one.
  void save_once();
  void finish();
  void save_end();

  /// What the optimizer changes.
  const NamedTensors& trained() const {
    if (adapter_) return *adapter_;
    return parameters_;
  }
  /// The model with its adapter as it is now.
  Parameters merged() const {
    const std::shared_ptr<const Parameters> base(std::shared_ptr<void>(), &parameters_);
    return merge_adapter(device_, model_, base, *adapter_);
  }
  void load_trained(const std::filesystem::path& checkpoint) {
    if (adapter_) return load_weights(device_, checkpoint, *adapter_);
    load_weights(device_, checkpoint, parameters_);
  }

  bool stop_requested() const {
    return ranks_.any(callbacks_.stop_requested && callbacks_.stop_requested());
  }
  void note(const std::string& line) const {
    if (callbacks_.on_note) callbacks_.on_note(line);
  }
  void warn(const std::string& line) {
    for (const auto& log : logs_) log->warning(state_.step, line);
    if (callbacks_.on_warning) callbacks_.on_warning(line);
  }
  double seconds_since_begun() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begun_).count();
  }
  bool time_is_up() const {
    return config_.max_seconds > 0 && ranks_.any(seconds_since_begun() >= config_.max_seconds);
  }
  std::int64_t eval_row_count() const {
    return eval_plan().rows > 0 ? std::min(eval_plan().rows, eval_rows_.size()) : eval_rows_.size();
  }
  EvalPlan eval_plan() const { return state_.eval_plan.value_or(EvalPlan{}); }
  bool has_validation() const { return eval_rows_.size() > 0; }
  bool stopped_early() const {
    return config_.early_stopping_patience > 0 &&
           state_.evals_since_best >= config_.early_stopping_patience;
  }
  bool stop_step_reached() const {
    return config_.stop_at_step > 0 && state_.step >= config_.stop_at_step;
  }
  bool finished() const { return state_.step >= total_steps_ || stopped_early(); }
  bool eval_due() const {
    if (!has_validation() || state_.eval_step == state_.step) return false;
    if (state_.step == 0 || state_.step >= total_steps_) return true;
    const std::int64_t every = config_.eval_steps > 0 ? config_.eval_steps : eval_plan().every;
    return every > 0 ? state_.step % every == 0 : batches_->at_epoch_end();
  }
  bool save_due() const {
    if (state_.step == 0 || saved_step_ == state_.step) return false;
    if (config_.load_best_model_at_end && state_.best_step == state_.step) return true;
    if (state_.skipped_in_a_row > 0) return false;
    return config_.save_steps > 0 && (state_.step % config_.save_steps == 0 || finished());
  }

  Device& device_;
  const Gpt2Config& model_;
  const Parameters& parameters_;
  const TrainingConfig config_;
  Ranks& ranks_;
  const TrainingCallbacks callbacks_;
  const Rows &rows_, &eval_rows_;
  const std::int64_t asked_steps_;
  const Schedule schedule_;  // of these
  std::int64_t total_steps_;

  TrainerState state_;
  std::int64_t saved_step_ = -1;
  std::filesystem::path last_checkpoint_;
  bool rotation_due_ = false, out_of_time_ = false;
  const std::chrono::steady_clock::time_point begun_ = std::chrono::steady_clock::now();
  Pace since_log_;
  double recent_step_seconds_ = 0;  // moving average, for the time left
  Pace recent_;                     // of the last step
  // Seconds: when the last plan was made, in evaluations since, in the last of these.
  double planned_at_ = 0, evaluated_ = 0, last_evaluation_ = 0;
  std::int64_t planned_step_ = 0;
  double peak_flops_ = 0;

  std::optional<OutputFolder> folder_;
  std::vector<std::shared_ptr<RunLog>> logs_;
  std::optional<LoraAdapter> adapter_;
  std::optional<Gpt2Training> network_;
  std::optional<AdamwOptimizer> optimizer_;
  std::optional<Batches> batches_;
};

}  // namespace quire

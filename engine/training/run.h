// A training run in the making, the work of train(): run.cpp has the steps, run_time.cpp what they
// may take. What they leave on the disk and what they tell is the Saver's and the Reporter's.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <optional>

#include "engine/training/optimizer.h"
#include "engine/training/reporter.h"
#include "engine/training/run_plan.h"
#include "engine/training/saver.h"
#include "engine/training/schedule.h"
#include "engine/training/trainer.h"

namespace quire {

/// The work of train().
class Run {
 public:
  /// All that is referred to outlives the run.
  Run(TrainedModel model, const Rows& rows, const Rows& validation, const TrainingConfig& config,
      const TrainingCallbacks& callbacks);
  Run(const Run&) = delete;
  Run& operator=(const Run&) = delete;

  TrainingResult run();

 private:
  void check_ranks() const;
  void check_early_stopping() const;
  void restore(const std::filesystem::path& checkpoint);
  /// The network, the optimizer and the batches, as they were in the checkpoint, if there is one.
  void build(const std::filesystem::path& checkpoint);
  TrainingResult result(bool stopped) const;

  /// Evaluation and checkpoint where the current step asks for them. False: to be stopped.
  bool settle();
  /// All of them, evaluations and checkpoints between. False: it was asked to stop.
  bool take_steps();
  /// What is left to do when `lost` has ended: saves what can be, and says how to go on.
  [[noreturn]] void go_without(const PeerLost& lost);
  void step();
  void skip(double loss, double norm);
  bool evaluate();
  void sample();
  void finish();

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

  bool stop_requested() const;
  double seconds_since_begun() const;
  bool time_is_up() const;
  std::int64_t eval_row_count() const;
  bool has_validation() const { return eval_rows_.size() > 0; }
  bool stopped_early() const;
  bool finished() const { return state_.step >= total_steps_ || stopped_early(); }
  bool eval_due() const;
  bool save_due() const;

  const TrainingConfig config_;
  Ranks& ranks_;
  const TrainingCallbacks callbacks_;  // of other ranks than the first those that all ask
  TrainedModel model_;
  const Rows &rows_, &eval_rows_;
  const std::int64_t asked_steps_;
  const Schedule schedule_;  // of these
  std::int64_t total_steps_;
  TrainerState state_;
  Reporter reporter_;
  Saver saver_;
  bool out_of_time_ = false;

  struct Times {
    std::chrono::steady_clock::time_point begun = std::chrono::steady_clock::now();
    // Seconds: when the last plan was made, in evaluations since, in the last of these.
    double planned = 0, evaluated = 0, last_evaluation = 0;
    std::int64_t planned_step = 0;
  } times_;

  std::optional<Gpt2Training> network_;
  std::optional<AdamwOptimizer> optimizer_;
  std::optional<Batches> batches_;
};

}  // namespace quire

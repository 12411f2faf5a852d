// What a training run tells while it runs: to its callbacks, and to its logs.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "engine/training/checkpoint.h"
#include "engine/training/trainer.h"

namespace quire {

/// Seconds of steps and the tokens in them; what happens between steps is not counted.
struct Pace {
  double seconds = 0, flops = 0;
  std::int64_t tokens = 0;
  double tokens_per_second() const { return tokens / seconds; }
  void add(const Pace& other) {
    seconds += other.seconds;
    flops += other.flops;
    tokens += other.tokens;
  }
};

/// What came out of a step.
struct StepResult {
  double loss, norm, learning_rate;
  Pace pace;
};

class Reporter {
 public:
  /// Both outlive it. Logs are kept by rank 0 alone.
  Reporter(const TrainingConfig& config, const TrainingCallbacks& callbacks, bool first_rank);

  void begin(std::int64_t resumed_step);  ///< -1: a new run
  void note(const std::string& line) const;
  void warn(std::int64_t step, const std::string& line);
  /// The step that `state` has just taken; where a line of the log is due, the mean loss since the
  /// one before, which then begins anew.
  void step(TrainerState& state, std::int64_t total_steps, const StepResult& result);
  /// Warns of a loss or norm far above those before.
  void watch(TrainerState& state, double loss, double norm);
  void eval(std::int64_t step, double loss);
  void samples(std::int64_t step, const std::vector<TextSample>& texts);
  void end(RunEnd how);
  void discard();  ///< the run took no step

 private:
  double mfu(const Pace& pace);

  const TrainingConfig& config_;
  const TrainingCallbacks& callbacks_;
  std::vector<std::shared_ptr<RunLog>> logs_;
  Pace since_log_;
  double recent_step_seconds_ = 0;  // moving average, for the time left
  double peak_flops_;
};

}  // namespace quire

// What a training run tells while it runs.
#pragma once

#include <cstdint>
#include <string>

namespace quire {

/// What a progress line shows. Fields that do not apply are NaN.
struct TrainingProgress {
  std::int64_t step = 0, total_steps = 0;
  double epoch = 0;
  double loss = 0;       ///< of the step; in on_log the mean of the steps since the last line
  double grad_norm = 0;  ///< of the step, before clipping
  double learning_rate = 0;
  std::int64_t tokens = 0;  ///< since the start, resumed steps included, padding excluded
  double tokens_per_second = 0, seconds_left = 0;
  double mfu = 0;        ///< model flops utilisation: training_flops() a second over the ceiling
  double eval_loss = 0;  ///< the latest
};

/// What the rest of a run will take, as some rows took before its first step. Texts made on the way
/// and checkpoints are not counted.
struct TrainingEstimate {
  double seconds = 0;             ///< in all
  double step_seconds = 0;        ///< of one
  double evaluation_seconds = 0;  ///< of one
  std::int64_t steps = 0;         ///< left
  std::int64_t asked_steps = 0;  ///< left, had they all the time; more than `steps` where shortened
  std::int64_t evaluations = 0;
  std::int64_t eval_rows = 0, held_out_rows = 0;  ///< those of an evaluation, and all of them
};

/// How far a step is that is being made: it may take minutes.
struct StepProgress {
  std::int64_t step = 0, total_steps = 0;  ///< the step in hand, from 1
  std::int64_t batches_done = 0, batches = 0;
};

/// A text made with the parameters at hand. What it says is the caller's business.
struct TextSample {
  std::string prompt, text;  ///< UTF-8; the text without the prompt
};

}  // namespace quire

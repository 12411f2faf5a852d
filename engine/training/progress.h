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

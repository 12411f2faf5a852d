// How a training run looks: one line that moves on a terminal, plain lines elsewhere, or JSON
// events.
#pragma once

#include <cstdint>
#include <string>

#include "cli/terminal.h"
#include "engine/training/trainer.h"

namespace quire {

/// Turns the trainer's reports into output. Must outlive the callbacks it makes.
class TrainProgress {
 public:
  /// With `json` events go to stdout, one object a line: {"event": "log" | "eval" | "sample" |
  /// "save" | "note" | "warning", …}.
  explicit TrainProgress(bool json) : json_(json) {}

  /// Callbacks that report here; stop_requested, write_companions, sample and logs are left to the
  /// caller.
  TrainingCallbacks callbacks();
  void show(std::int64_t step, const TextSample& sample);
  /// Ends the moving line.
  void finish() { line_.clear(); }

  /// "step 120/500 loss 3.214 val 3.402 lr 4.2e-05 12,345 tok/s 61% peak 2m 05s left": within 80
  /// columns, so that a terminal shows the end too.
  std::string text(const TrainingProgress& progress) const;

 private:
  bool json_;
  ProgressLine line_;
};

}  // namespace quire

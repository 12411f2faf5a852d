// How a training run looks: one line that moves on a terminal, plain lines elsewhere, or JSON
// events.
#pragma once

#include <algorithm>
#include <string>

#include "cli/terminal.h"
#include "engine/training/trainer.h"

namespace quire {

/// Turns the trainer's reports into output. Must outlive the callbacks it makes.
class TrainProgress {
 public:
  /// `ceiling` is the machine's measured speed of matrix products in flops a second. With `json`
  /// events go to stdout, one object a line: {"event": "log" | "eval" | "save" | "note", …}.
  TrainProgress(double ceiling, bool json) : ceiling_(ceiling), json_(json) {}

  /// Callbacks that report here; stop_requested and write_companions are left to the caller.
  TrainingCallbacks callbacks();
  /// Ends the moving line.
  void finish() { line_.clear(); }

  /// "step 120/500 loss 3.214 val 3.402 lr 4.2e-05 12,345 tok/s 61% peak 2m 05s left": within 80
  /// columns, so that a terminal shows the end too.
  std::string text(const TrainingProgress& progress) const;

 private:
  /// A ceiling that was measured while the machine did something else is too low: what the run
  /// itself reached corrects it.
  void observe(const TrainingProgress& progress) {
    ceiling_ = std::max(ceiling_, progress.flops_per_second);
  }

  double ceiling_;
  bool json_;
  ProgressLine line_;
};

}  // namespace quire

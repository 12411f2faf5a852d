// How a training run looks: one line that moves on a terminal, plain lines elsewhere, or JSON
// events.
#pragma once

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

  /// "step 120/500 · loss 3.214 · val 3.402 · lr 4.2e-05 · 12,345 tok/s · 61% of peak · 2m 05s
  /// left"
  std::string text(const TrainingProgress& progress) const;

 private:
  double ceiling_;
  bool json_;
  ProgressLine line_;
};

}  // namespace quire

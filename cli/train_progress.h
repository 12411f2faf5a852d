// How a training run looks: one line that moves on a terminal, plain lines
// elsewhere, or JSON events.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "cli/terminal.h"
#include "engine/training/trainer.h"

namespace quire {

/// Turns the trainer's reports into output. Must outlive the callbacks it makes.
class TrainProgress {
 public:
  /// With `json` events go to stdout, one object a line: {"event": "estimate" | "log" | "eval" |
  /// "sample" | "save" | "note" | "warning", …}. `max_seconds`: of --max-time, 0 without.
  explicit TrainProgress(bool json, double max_seconds = 0)
      : json_(json), max_seconds_(max_seconds) {}

  /// Callbacks that report here; stop_requested, write_companions,
  /// sample and logs are left to the caller.
  TrainingCallbacks callbacks();
  void show(std::int64_t step, const TextSample& sample);
  /// Ends the moving line.
  void finish() { line_.clear(); }

  /// "step 120/500 loss 3.214 val 3.402 lr 4.2e-05 12,345 tok/s 61% peak 2m 05s left": of it a
  /// terminal of 40 columns has step, loss and the time left.
  static std::vector<LinePart> parts(const TrainingProgress& progress);

 private:
  std::vector<std::string> lines(const TrainingEstimate& estimate) const;

  bool json_;
  double max_seconds_;
  ProgressLine line_;
  std::vector<LinePart> latest_;  // of the steps so far
};

/// Says that the folder's README.md, which Quire did not write, is left as it is.
void note_left_readme(const std::filesystem::path& folder);

/// The last event of a run, JSON on stdout: "done", "out_of_time", "interrupted" or "stopped" where
/// --stop-at-step has it.
void print_end(const TrainingResult& result, bool interrupted, double seconds,
               const std::string& output_dir);

}  // namespace quire

// The runs of a sweep: a folder each, and a child process while it trains.
//
//   DIR/run-001/options.json   what quire train is told, as --config-file
//               train.log      what it printed
//               model/         its --output-dir: log.jsonl, checkpoints, and the model in the end
//               result.json    {"round", "step", "status", "value", …}: how it last ended
//
// result.json appears when a round of the run is over, whole, so a run without one of its round is
// to be made or gone on with: from its latest checkpoint where there is one, else from the start.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "pipeline/sweep/space.h"

namespace quire {

/// "run-001" for place 0.
std::string run_name(std::size_t place);

enum class RunStatus {  // the best first
  done,                 ///< trained to the end of its round
  diverged,             ///< exit code 6, or a loss that is not a number
  failed,               ///< another exit code, or a signal
  open,                 ///< not made, or interrupted
};
const char* name_of(RunStatus status);

struct RunResult {
  RunStatus status = RunStatus::open;
  int round = 0;                                            ///< the last one it was in, from 1
  std::int64_t step = 0;                                    ///< where it stands
  double value = std::numeric_limits<double>::quiet_NaN();  ///< of the metric
  double seconds = 0;  ///< of its rounds, less what was interrupted
  int exit_code = 0;   ///< 128 + the signal where one ended it
  std::string error;   ///< of a run that failed, one line
};

/// The losses of model/log.jsonl by step. A file that is not there has none.
struct LossCurve {
  std::vector<std::pair<std::int64_t, double>> training, validation;  ///< NaN where it diverged
};
LossCurve read_curve(const std::filesystem::path& run_folder);

struct SweepRow {
  std::string name;  ///< "run-001"
  Configuration configuration;
  RunResult result;
  LossCurve curve;
};

/// The last "eval_loss" or "loss" of a curve, or the "best_eval_loss" after its start; NaN without.
double metric_of(const LossCurve& curve, const std::string& metric);

/// What result.json says; open where there is none. Throws Error(bad_data) naming the file.
RunResult read_result(const std::filesystem::path& run_folder);
void write_result(const std::filesystem::path& run_folder, const RunResult& result);

/// A run to be trained up to the step `stop_at`, 0 for its end.
struct RunTask {
  std::filesystem::path folder;
  int round = 1;
  std::int64_t stop_at = 0;
  RunResult before;  ///< of its last round
};

struct RunOptions {
  int parallel = 1;
  std::string metric;
  /// The command line of this program that trains a task, on from its latest checkpoint or anew.
  std::function<std::vector<std::string>(const RunTask& task, bool resume)> command;
  /// 0, or a signal that asks to stop: it is handed on to all that run, which save and end.
  std::function<int()> stop_signal;
};

/// Trains the tasks in order, so many at a time, and writes the result of each that ended. Those
/// that were stopped stay open, as those not begun. `on_end`
/// is told a task's place and result as it ends, `on_wait` is called ten times a second.
void make_runs(const std::vector<RunTask>& tasks, const RunOptions& options,
               const std::function<void(std::size_t, const RunResult&)>& on_end,
               const std::function<void()>& on_wait);

}  // namespace quire

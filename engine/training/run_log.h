// What keeps the story of a run: log.jsonl and log.csv here, other forms elsewhere.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "engine/training/progress.h"

namespace quire {

enum class RunEnd {
  done,         ///< the final model is saved, be it that the time was up
  interrupted,  ///< a checkpoint is saved, and the run may go on
  diverged,
};

/// The trainer tells each of its logs the same things in the same order; what a log does not keep it
/// leaves as it is here. All of them may throw Error(no_space) or Error(bad_data).
class RunLog {
 public:
  RunLog() = default;
  RunLog(const RunLog&) = delete;
  RunLog& operator=(const RunLog&) = delete;
  virtual ~RunLog() = default;

  /// Before all else. A run that goes on at `resumed_step` will report all later steps again: what
  /// the log has of them goes. -1: a new run, everything goes.
  virtual void begin(const std::filesystem::path& output_dir, std::int64_t resumed_step) = 0;
  virtual void train(const TrainingProgress&) {}
  virtual void eval(std::int64_t /*step*/, double /*eval_loss*/) {}
  virtual void sample(std::int64_t /*step*/, const TextSample&) {}
  virtual void warning(std::int64_t /*step*/, const std::string& /*text*/) {}
  virtual void end(RunEnd) {}
  /// The run was interrupted before its first step: the folder is to be left as it was found.
  virtual void discard() = 0;
};

}  // namespace quire

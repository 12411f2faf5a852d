// log.jsonl: the numbers of a run, one JSON object a line, for people's plots.
//
//   {"step","epoch","loss","grad_norm","learning_rate","tokens","tokens_per_second"}
//   {"step","eval_loss","eval_perplexity"}
#pragma once

#include <cstdint>
#include <filesystem>

#include "engine/training/trainer.h"

namespace quire {

class RunLog {
 public:
  static constexpr const char* kFileName = "log.jsonl";

  /// Opens OUTPUT_DIR/log.jsonl for appending. Lines of steps after `resumed_step` are dropped
  /// first: they will be written again. Throws Error(no_space) or Error(bad_data).
  RunLog(const std::filesystem::path& output_dir, std::int64_t resumed_step);
  RunLog(const RunLog&) = delete;
  RunLog& operator=(const RunLog&) = delete;
  ~RunLog();

  void train(const TrainingProgress& progress);
  void eval(std::int64_t step, double eval_loss);

 private:
  void write_line(const std::string& line);

  std::filesystem::path path_;
  int descriptor_ = -1;
};

}  // namespace quire

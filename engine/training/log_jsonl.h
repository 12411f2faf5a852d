// log.jsonl: the story of a run, one JSON object a line, for people's plots.
//
//   {"step","epoch","loss","grad_norm","learning_rate","tokens","tokens_per_second","mfu"}
//   {"step","eval_loss","eval_perplexity"}
//   {"step","prompt","sample"}     a text made with the parameters of that step
//   {"step","warning"}             a step that was skipped, a spike
// A number that is not finite, and mfu where the machine's ceiling is not known, is null.
#pragma once

#include <optional>

#include "engine/training/line_file.h"
#include "engine/training/run_log.h"

namespace quire {

class JsonlLog : public RunLog {
 public:
  static constexpr const char* kFileName = "log.jsonl";

  void begin(const std::filesystem::path& output_dir, std::int64_t resumed_step) override;
  void train(const TrainingProgress& progress) override;
  void eval(std::int64_t step, double eval_loss) override;
  void sample(std::int64_t step, const TextSample& sample) override;
  void warning(std::int64_t step, const std::string& text) override;
  void end(RunEnd) override {}
  void discard() override;

 private:
  std::optional<LineFile> file_;
};

}  // namespace quire

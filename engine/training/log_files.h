// log.jsonl and log.csv: the story of a run for people's plots, and its numbers for a spreadsheet.
//
// log.jsonl has one JSON object a line:
//   {"step","epoch","loss","grad_norm","learning_rate","tokens","tokens_per_second","mfu"}
//   {"step","eval_loss","eval_perplexity"}
//   {"step","prompt","sample"}     a text made with the parameters of that step
//   {"step","warning"}             a step that was skipped, a spike
// A number that is not finite, and mfu where the machine's ceiling is not known, is null.
//
// log.csv has a heading, then a row for each line of training and for each evaluation; the columns
// of the other are empty in it, and so is a number that is not known. Samples and warnings are not
// numbers and have no row.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "base/file.h"
#include "engine/training/run_log.h"

namespace quire {

/// A log that is a text file of whole lines. One without its end, cut short by a crash, goes.
class LineLog : public RunLog {
 public:
  void begin(const std::filesystem::path& output_dir, std::int64_t resumed_step) override;
  void discard() override;

 protected:
  explicit LineLog(const char* file_name) : file_name_(file_name) {}
  /// Whether a line stays in the log of a run that goes on at that step.
  virtual bool keeps(std::string_view line, std::int64_t resumed_step) const = 0;
  /// `line` without its end.
  void write(const std::string& line) { file_->write(line + "\n"); }
  bool is_empty() const { return std::filesystem::file_size(file_->path()) == 0; }

 private:
  const char* file_name_;
  std::optional<AppendFile> file_;
};

class JsonlLog : public LineLog {
 public:
  static constexpr const char* kFileName = "log.jsonl";

  JsonlLog() : LineLog(kFileName) {}
  void train(const TrainingProgress& progress) override;
  void eval(std::int64_t step, double eval_loss) override;
  void sample(std::int64_t step, const TextSample& sample) override;
  void warning(std::int64_t step, const std::string& text) override;

 private:
  bool keeps(std::string_view line, std::int64_t resumed_step) const override;
};

class CsvLog : public LineLog {
 public:
  static constexpr const char* kFileName = "log.csv";
  static constexpr const char* kHeading =
      "step,epoch,loss,grad_norm,learning_rate,tokens,eval_loss,eval_perplexity,"
      "tokens_per_second,mfu";

  CsvLog() : LineLog(kFileName) {}
  void begin(const std::filesystem::path& output_dir, std::int64_t resumed_step) override;
  void train(const TrainingProgress& progress) override;
  void eval(std::int64_t step, double eval_loss) override;

 private:
  bool keeps(std::string_view line, std::int64_t resumed_step) const override;
};

}  // namespace quire

// log.csv: the numbers of a run for a spreadsheet.
//
// A heading, then a row for each line of training and for each evaluation; the columns of the other
// are empty in it, and so is a number that is not known. Samples and warnings are not numbers and
// have no row.
#pragma once

#include <optional>

#include "engine/training/line_file.h"
#include "engine/training/run_log.h"

namespace quire {

class CsvLog : public RunLog {
 public:
  static constexpr const char* kFileName = "log.csv";
  static constexpr const char* kHeading =
      "step,epoch,loss,grad_norm,learning_rate,tokens,eval_loss,eval_perplexity,"
      "tokens_per_second,mfu";

  void begin(const std::filesystem::path& output_dir, std::int64_t resumed_step) override;
  void train(const TrainingProgress& progress) override;
  void eval(std::int64_t step, double eval_loss) override;
  void sample(std::int64_t, const TextSample&) override {}
  void warning(std::int64_t, const std::string&) override {}
  void end(RunEnd) override {}
  void discard() override;

 private:
  std::optional<LineFile> file_;
};

}  // namespace quire

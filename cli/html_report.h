// OUTPUT_DIR/report.html: a run on one page, with no scripts and nothing from elsewhere.
//
// The page is drawn from log.jsonl and the options, anew at each evaluation and at the end. So it
// knows of a resumed run what came before, and nothing that the log has not.
#pragma once

#include <string>
#include <string_view>

#include "engine/training/run_log.h"

namespace quire {

struct ReportPage {
  std::string title;
  std::string_view log;      ///< lines of log.jsonl
  std::string_view options;  ///< a JSON object
};

/// HTML with curves as inline SVG: loss, learning rate, gradient norm, tokens a second and mfu
/// where the log has them; warnings, samples (newest first) and options.
std::string report_html(const ReportPage& page);

/// Must come after the log.jsonl that it reads.
class HtmlReport : public RunLog {
 public:
  static constexpr const char* kFileName = "report.html";

  HtmlReport(std::string title, std::string options)
      : title_(std::move(title)), options_(std::move(options)) {}

  void begin(const std::filesystem::path& output_dir, std::int64_t resumed_step) override;
  void train(const TrainingProgress&) override {}
  void eval(std::int64_t step, double eval_loss) override;
  void sample(std::int64_t, const TextSample&) override {}
  void warning(std::int64_t, const std::string&) override {}
  void end(RunEnd how) override;
  void discard() override;

 private:
  void write() const;

  std::string title_, options_;
  std::filesystem::path output_dir_;
};

}  // namespace quire

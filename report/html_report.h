// OUTPUT_DIR/report.html: a run on one page, with no scripts and nothing from elsewhere.
//
// The page is drawn from log.jsonl and the options, anew at each evaluation and at the end. So it
// knows of a resumed run what came before, and nothing that the log has not.
#pragma once

#include <chrono>
#include <string>
#include <string_view>

#include "engine/training/run_log.h"

namespace quire {

struct ReportPage {
  std::string_view log;      ///< lines of log.jsonl
  std::string_view options;  ///< a JSON object; "model", "config" and "data" name what was trained
  std::string_view set = "{}";     ///< those of the options that were set, the table on top
  std::string began;               ///< "2026-11-27 17:33", of this process's part of the run
  double seconds = 0;              ///< that it took so far
  std::int64_t resumed_step = -1;  ///< where it went on; -1: a new run
  std::string state = "running";   ///< or how it ended
};

/// HTML, for screens from 400 pixels on. The title says what was trained on what, when, for how
/// long, and the last validation loss, or the last loss. Then curves as inline SVG: loss, learning
/// rate, gradient norm, tokens a second and mfu where the log has them; warnings, samples (newest
/// first) and options.
std::string report_html(const ReportPage& page);

/// Must come after the log.jsonl that it reads.
class HtmlReport : public RunLog {
 public:
  static constexpr const char* kFileName = "report.html";

  HtmlReport(std::string options, std::string set)
      : options_(std::move(options)), set_(std::move(set)) {}

  void begin(const std::filesystem::path& output_dir, std::int64_t resumed_step) override;
  void eval(std::int64_t step, double eval_loss) override;
  void end(RunEnd how) override;
  void discard() override;

 private:
  void write(const char* state) const;

  std::string options_, set_, began_;
  std::filesystem::path output_dir_;
  std::chrono::steady_clock::time_point start_;
  std::int64_t resumed_step_ = -1;
};

}  // namespace quire

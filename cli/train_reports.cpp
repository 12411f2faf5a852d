#include "cli/train_reports.h"

#include "cli/html_report.h"
#ifdef QUIRE_WITH_TENSORBOARD
#include "cli/tensorboard_log.h"
#endif

namespace quire {

std::vector<std::shared_ptr<RunLog>> train_reports(const TrainOptions& options,
                                                   const std::string& saved_options) {
  std::vector<std::shared_ptr<RunLog>> reports;
  if (options.report_tensorboard) {
#ifdef QUIRE_WITH_TENSORBOARD
    reports.push_back(std::make_shared<TensorboardLog>(saved_options));
#else
    throw Error(Fault::usage, "this quire was built without TensorBoard's event files",
                {"they want libprotobuf-dev, protobuf-compiler and libboost-dev, found when "
                 "build/ is configured"},
                "--report-to jsonl,html, or install these, cmake --preset release and build again");
#endif
  }
  if (options.report_html) {
    reports.push_back(
        std::make_shared<HtmlReport>(options.training.output_dir.string(), saved_options));
  }
  return reports;
}

}  // namespace quire

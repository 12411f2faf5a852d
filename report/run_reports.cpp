#include "report/run_reports.h"

#include "base/error.h"
#include "report/html_report.h"
#ifdef QUIRE_WITH_TENSORBOARD
#include "report/tensorboard_log.h"
#endif

namespace quire {

std::vector<std::shared_ptr<RunLog>> RunReports::make(const std::string& options,
                                                      const std::string& set_options) const {
  std::vector<std::shared_ptr<RunLog>> reports;
  if (tensorboard) {
#ifdef QUIRE_WITH_TENSORBOARD
    reports.push_back(std::make_shared<TensorboardLog>(options));
#else
    throw Error(
        Fault::usage, "this quire was built without TensorBoard's event files",
        {"they want libprotobuf-dev, protobuf-compiler and libboost-dev, found when "
         "build/ is configured"},
        "`report_to` jsonl,html, or install these, cmake --preset release and build again"_named);
#endif
  }
  if (html) reports.push_back(std::make_shared<HtmlReport>(options, set_options));
  return reports;
}

}  // namespace quire

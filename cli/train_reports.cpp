#include "cli/train_reports.h"

#include <nlohmann/json.hpp>

#include "base/json.h"
#include "cli/flags.h"
#include "cli/html_report.h"
#ifdef QUIRE_WITH_TENSORBOARD
#include "cli/tensorboard_log.h"
#endif

namespace quire {
namespace {

/// Those of `saved_options` that are not what train takes where nothing is said.
std::string changed_options(const std::string& saved_options) {
  using Json = nlohmann::ordered_json;
  TrainOptions untouched;
  Flags flags("train", "", "");
  untouched.add_to(flags);
  const Json defaults = parse_json<Json>(flags.resolved_json());
  Json changed = Json::object();
  const Json saved = parse_json<Json>(saved_options);
  for (const auto& [name, value] : saved.items()) {
    const bool follows = name == "data_seed" && value == saved.value("seed", Json());
    if (!follows && value != defaults.value(name, Json())) changed[name] = value;
  }
  return json_text(changed);
}

}  // namespace

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
    reports.push_back(std::make_shared<HtmlReport>(saved_options, changed_options(saved_options)));
  }
  return reports;
}

}  // namespace quire

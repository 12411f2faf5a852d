#include "cli/train_reports.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/json.h"
#include "cli/flags.h"
#include "pipeline/model_path.h"
#include "report/html_report.h"
#include "report/model_card.h"
#ifdef QUIRE_WITH_TENSORBOARD
#include "report/tensorboard_log.h"
#endif

namespace quire {
namespace {

/// Those of `saved_options` that were given, or are not what train takes where nothing is said: a
/// run that is gone on from has them from its checkpoint.
std::string set_options(const Flags& flags, const std::string& saved_options) {
  using Json = nlohmann::ordered_json;
  const Json defaults = parse_json<Json>(ParsedTrain().flags.resolved_json());
  Json set = Json::object();
  const Json saved = parse_json<Json>(saved_options);
  for (const auto& [name, value] : saved.items()) {
    std::string option = name;
    std::replace(option.begin(), option.end(), '_', '-');
    const bool follows = name == "data_seed" && value == saved.value("seed", Json());
    const bool differs = !follows && value != defaults.value(name, Json());
    if (differs || flags.given(option)) set[name] = value;
  }
  return json_text(set);
}

}  // namespace

std::vector<std::shared_ptr<RunLog>> train_reports(const TrainFlags& options, const Flags& flags,
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
        std::make_shared<HtmlReport>(saved_options, set_options(flags, saved_options)));
  }
  return reports;
}

std::string card_of(const TrainOptions& options, const Gpt2Config& config) {
  const TrainingConfig& training = options.training;
  const bool adapter = training.lora.r > 0 && !training.lora_merge;
  const std::string& base = adapter ? training.base_model : options.model;
  return model_card({.training = training,
                     .model = config,
                     .corpus = options.corpus,
                     .validation_paths = options.validation_paths,
                     .base = base,
                     .base_on_hub = is_hub_name(base)});
}

}  // namespace quire

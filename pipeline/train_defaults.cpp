#include "pipeline/train_defaults.h"

#include <fmt/format.h>

#include <filesystem>
#include <optional>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "engine/training/checkpoint.h"
#include "pipeline/get_model.h"
#include "pipeline/model_path.h"
#include "pipeline/resources.h"

namespace quire {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

std::string choose_model(TrainOptions& options) {
  if (!options.model.empty() || !options.config.empty() ||
      !options.training.resume_from_checkpoint.empty()) {
    return {};
  }
  const std::optional<fs::path> usual = find_whole_model(kUsualModel);
  options.model = usual ? kUsualModel : kBundledModel;
  const std::string begin =
      fmt::format("no --model and no --config: training goes on from {}", options.model);
  return usual ? fmt::format("{}, found in {}", begin, shown_path(*usual))
               : fmt::format("{}, which comes with Quire (--model {} says how to get that one)",
                             begin, kUsualModel);
}

Json earlier_options(const TrainingConfig& training) {
  if (training.resume_from_checkpoint.empty()) return Json::object();
  const fs::path path =
      find_checkpoint(training.output_dir, training.resume_from_checkpoint) / "quire_config.json";
  if (!fs::exists(path)) return Json::object();
  Json options = parse_json_or_discard<Json>(read_file(path));
  if (options.is_object()) return options;
  throw Error(Fault::bad_data, path.string() + " is damaged", {"it is no JSON object"},
              "another checkpoint");
}

void keep_validation(const Json& earlier, TrainOptions& options) {
  const auto files = earlier.find("validation_file");
  if (files == earlier.end() || !files->is_array() || files->empty()) return;
  for (const Json& file : *files) {
    if (file.is_string()) options.validation_paths.push_back(file.get<std::string>());
  }
}

std::string saved_options(const std::string& resolved, const TrainOptions& options,
                          const Json& earlier) {
  Json saved = parse_json<Json>(resolved);
  const TrainingConfig& training = options.training;
  saved["data_seed"] = training.data_seed.value_or(training.seed);
  saved.erase("warmup_ratio");
  if (!options.validation_paths.empty()) saved.erase("validation_split");
  for (const char* name :
       {"output_dir", "resume_from_checkpoint", "overwrite_output_dir", "stop_at_step", "json",
        "quiet", "device", "threads", "max_time", "fit_to_time"}) {
    saved.erase(name);
  }
  // A run that is gone on from has its model from the checkpoint, and began
  // with what is named here.
  if (options.model.empty() && options.config.empty()) {
    for (const char* name : {"model", "config", "tokenizer"}) {
      if (saved[name] == "" && earlier.contains(name)) saved[name] = earlier[name];
    }
  }
  return json_text(saved, 2) + "\n";
}

}  // namespace quire

#include "pipeline/training_start.h"

#include <fmt/format.h>

#include <optional>
#include <system_error>
#include <utility>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/text.h"
#include "engine/formats/adapter_folder.h"
#include "engine/formats/adapter_merge.h"
#include "engine/formats/hub_folder.h"
#include "engine/model/vocabulary.h"
#include "engine/training/checkpoint.h"
#include "pipeline/get_model.h"
#include "pipeline/model_path.h"
#include "pipeline/model_tokenizer.h"
#include "pipeline/resources.h"

namespace quire {

namespace fs = std::filesystem;

namespace {

using Json = nlohmann::ordered_json;

void refuse_adapter_on_adapter(const TrainOptions& options, const fs::path& model) {
  if (options.training.lora.r == 0 || !is_adapter(model)) return;
  throw Error(Fault::usage,
              "`lora_r` adapts a model, and "_named + model.string() + " is an adapter",
              {"a second adapter would have no model of its own to be used with"},
              "`model` "_named + in_shell(base_model(model).string()) +
                  ", or without `lora_r` to train the merged model as a whole"_named);
}

/// A folder holds a model or an adapter: writing the one would remove the other, which is in use.
void refuse_same_folder(const TrainOptions& options, const fs::path& model) {
  const TrainingConfig& training = options.training;
  const fs::path folder = is_adapter(model) ? model : config_folder(model);
  std::error_code not_there;
  if (training.lora.r == 0 && !is_adapter(model)) return;
  if (!fs::equivalent(folder, training.output_dir, not_there)) return;
  throw Error(
      Fault::usage,
      "`output_dir` "_named + training.output_dir.string() + " is the folder of `model`"_named,
      {"an adapter and the model that it adapts lie in two folders"}, "another `output_dir`"_named);
}

/// The model gets a row for each id that its tokenizer has beyond them, where that is asked for.
void grow(TrainOptions& options, TrainingStart& start) {
  const int ids = start.tokenizer->vocab_size();
  // A checkpoint that is gone on from without --model has the rows that its run gave it.
  if (!options.resize_vocab || options.model.empty()) {
    throw Error(
        Fault::bad_data, "the tokenizer has more ids than the model",
        {fmt::format("the tokenizer has {} ids, the model {}", ids, start.config.vocab_size)},
        options.model.empty() ? "the `tokenizer` of the run that is resumed"_named
                              : "the `tokenizer` that the model was trained with, or "_named
                                "`resize_vocab` for a model with more rows"_named);
  }
  start.config.vocab_size = ids;
  options.training.save_tables = options.training.lora.r > 0;
}

}  // namespace

TrainingStart find_start(TrainOptions& options) {
  TrainingStart start;
  fs::path folder;  // of the model whose tokenizer is used when none is named
  TrainingConfig& training = options.training;
  if (!options.model.empty()) {
    start.weights = resolve_model(options.model);
    refuse_adapter_on_adapter(options, start.weights);
    refuse_same_folder(options, start.weights);
    folder = start.weights;
    start.config = resolved_config(start.weights);
    if (training.lora.r > 0) training.base_model = name_for_peft(options.model);
  } else if (!options.config.empty()) {
    const std::optional<Gpt2Config> preset = Gpt2Config::preset(options.config);
    if (!preset && !fs::exists(options.config)) {
      throw Error(Fault::usage,
                  "`config` "_named + options.config + " is neither a preset nor a file",
                  {"presets: tiny, gpt2, gpt2-medium, gpt2-large, gpt2-xl"}, "`config` tiny"_named);
    }
    start.config = preset ? *preset : read_config(options.config);
  } else {
    folder = find_checkpoint(training.output_dir, training.resume_from_checkpoint);
    start.config = resolved_config(folder);
    if (is_adapter(folder)) {  // which holds no model: the base is read again
      start.weights = base_model(folder);
      training.save_tables = adapted_vocab_size(folder) > 0;
      if (training.save_tables) start.tables = folder;
      training.base_model = read_adapter_config(folder).base_model_name_or_path;
    }
  }
  if (!options.tokenizer.empty() || (!folder.empty() && has_tokenizer(folder))) {
    start.tokenizer = tokenizer_of(folder, options.tokenizer);
  } else {
    std::vector<std::string>& lines = options.get_tokenizer;
    lines.emplace_back(folder.empty() ? "a fresh model has no vocabulary of its own"
                                      : "the model's folder has none");
    const std::vector<std::string> how =
        folder.empty() ? how_to_get(std::string(kUsualModel)) : how_to_get(config_folder(folder));
    lines.insert(lines.end(), how.begin(), how.end());
  }

  if (start.tokenizer && !options.config.empty()) {  // a fresh model takes the tokenizer's sizes
    start.config.vocab_size = start.tokenizer->vocab_size();
    start.config.bos_token_id = start.config.eos_token_id = start.tokenizer->end_of_text();
  }
  if (start.tokenizer && start.tokenizer->vocab_size() > start.config.vocab_size) {
    grow(options, start);
  }
  if (options.dropout >= 0) {
    start.config.resid_pdrop = start.config.embd_pdrop = start.config.attn_pdrop = options.dropout;
  }
  start.config.check();
  return start;
}

Parameters make_parameters(Device& device, TrainingStart& start, const TrainOptions& options,
                           const std::function<void(const std::string&)>& note) {
  if (!start.weights.empty()) {
    LoadedModel loaded = load_resolved(device, start.weights, WeightStorage::f32);
    if (!start.tables.empty()) {
      loaded = with_adapter_tables(device, start.tables, std::move(loaded));
    }
    for (const std::string& line : loaded.notes) note(line);
    start.config.tie_word_embeddings = loaded.config.tie_word_embeddings;
    if (loaded.config.vocab_size < start.config.vocab_size) {
      note(fmt::format("the vocabulary grows from {} to {} rows, the new ones around their mean",
                       loaded.config.vocab_size, start.config.vocab_size));
      return grow_vocabulary(device, start.config, loaded.parameters, options.training.seed);
    }
    return std::move(loaded.parameters);
  }
  if (!options.training.resume_from_checkpoint.empty()) return Parameters(device, start.config);
  return initialize_parameters(device, start.config, options.training.seed);
}

std::string choose_model(TrainOptions& options) {
  if (!options.model.empty() || !options.config.empty() ||
      !options.training.resume_from_checkpoint.empty()) {
    return {};
  }
  const std::optional<fs::path> usual = find_whole_model(kUsualModel);
  options.model = usual ? kUsualModel : kBundledModel;
  const std::string begin = fmt::format(
      fmt::runtime("no `model` and no `config`: training goes on from {}"_named), options.model);
  return usual ? fmt::format("{}, found in {}", begin, shown_path(*usual))
               : fmt::format("{}, which comes with Quire (quire download {} gets that one)", begin,
                             kUsualModel);
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
  saved["bf16"] = training.bf16;  // which --dtype says in other words, auto among them
  saved.erase("dtype");
  saved.erase("warmup_ratio");
  if (!options.validation_paths.empty()) saved.erase("validation_split");
  for (const char* name :
       {"output_dir", "resume_from_checkpoint", "overwrite_output_dir", "stop_at_step", "json",
        "quiet", "device", "threads", "max_time", "fit_to_time", "download"}) {
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

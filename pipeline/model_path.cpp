#include "pipeline/model_path.h"

#include <algorithm>
#include <optional>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "base/hub_names.h"
#include "base/nearest.h"
#include "engine/formats/adapter_folder.h"
#include "engine/formats/adapter_merge.h"
#include "engine/formats/weight_files.h"
#include "pipeline/get_model.h"
#include "pipeline/model_tokenizer.h"
#include "pipeline/resources.h"

namespace quire {

namespace fs = std::filesystem;

namespace {

bool holds_model(const fs::path& folder) {
  std::error_code trouble;
  return fs::exists(folder / "config.json", trouble) || is_adapter(folder) || has_weights(folder);
}

// The snapshot that refs/main names; without that file, one that holds a model.
fs::path snapshot_of(const fs::path& repository) {
  std::error_code trouble;
  if (fs::is_regular_file(repository / "refs/main", trouble)) {
    std::string commit = read_file(repository / "refs/main");
    commit.erase(commit.find_last_not_of(" \r\n") + 1);
    const fs::path snapshot = repository / "snapshots" / commit;
    if (holds_model(snapshot)) return snapshot;
  }
  std::vector<fs::path> found;
  for (const auto& entry : fs::directory_iterator(repository / "snapshots", trouble)) {
    if (holds_model(entry.path())) found.push_back(entry.path());
  }
  return found.empty() ? fs::path() : *std::max_element(found.begin(), found.end());
}

/// Whether some file in it may hold weights, read or not: load_model() tells of those that are not.
bool holds_weights(const fs::path& folder) {
  std::error_code trouble;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, trouble)) {
    const std::string kind = entry.path().extension().string();
    // A link of the Hub's cache whose file is gone leads nowhere.
    const bool there = fs::exists(entry.path(), trouble);
    for (const char* of_weights : {".safetensors", ".bin", ".h5", ".gguf", ".index", ".pt"}) {
      if (there && kind == of_weights) return true;
    }
    if (there && entry.path().filename().string().ends_with(".index.json")) return true;
  }
  return false;
}

/// The bundled models, by name.
std::vector<std::string> bundled_models() {
  std::vector<std::string> names;
  for (const fs::path& folder : resource_folders()) {
    std::error_code trouble;
    for (const fs::directory_entry& entry : fs::directory_iterator(folder / "models", trouble)) {
      if (holds_model(entry.path())) names.push_back(entry.path().filename().string());
    }
  }
  return names;
}

/// A file stands for a model where it holds weights in a format that is read, or may hold some and
/// lies beside a config.json; a config.json alone is one for commands that want no weights.
void check_model_file(const fs::path& file) {
  std::error_code trouble;
  if (!fs::is_regular_file(file, trouble) || file.extension() == ".json" || is_weight_file(file) ||
      fs::exists(file.parent_path() / "config.json", trouble)) {
    return;
  }
  throw Error(Fault::bad_data, file.string() + " is not a model",
              {"there is no config.json beside it"}, models_to_try());
}

/// The details of an error, and after them how the model is got.
template <class Name>
std::vector<std::string> with_how_to_get(std::vector<std::string> details, const Name& name) {
  const std::vector<std::string> lines = how_to_get(name);
  details.insert(details.end(), lines.begin(), lines.end());
  return details;
}

}  // namespace

fs::path resolve_model(const std::string& model) {
  if (model.empty()) {
    throw Error(Fault::usage, "the model's name is empty", {}, models_to_try());
  }
  std::error_code trouble;
  if (fs::is_directory(model, trouble) && !holds_model(model)) {
    throw Error(Fault::bad_data, model + " is not a model folder",
                with_how_to_get({"it holds no config.json"}, fs::path(model)), models_to_try());
  }
  if (fs::exists(model, trouble)) {
    check_model_file(model);
    return model;
  }

  std::vector<std::string> looked;
  if (const std::string close = nearest(model, bundled_models()); !close.empty()) {
    looked.push_back("did you mean " + close + "?");
  }
  looked.push_back("no file or folder " + fs::absolute(model).string());
  if (may_be_hub_name(model)) {
    if (model.find('/') == std::string::npos) {
      const fs::path bundled = find_resource("models/" + model);
      if (!bundled.empty()) return bundled;
      for (const fs::path& folder : resource_folders()) {
        looked.push_back("no model " + (folder / "models" / model).string());
      }
    }
    // The Hub moved "gpt2" to "openai-community/gpt2"; caches have either.
    std::vector<std::string> names = {model};
    if (model.find('/') == std::string::npos) names.push_back("openai-community/" + model);
    for (const std::string& name : names) {
      const fs::path repository = hub_cache() / hub_cache_folder(name);
      const fs::path snapshot = snapshot_of(repository);
      if (!snapshot.empty()) return snapshot;
      looked.push_back("no snapshot with a config.json in " + repository.string());
    }
  }
  throw Error(Fault::bad_data, "there is no model '" + model + "'",
              with_how_to_get(std::move(looked), model), models_to_try());
}

bool is_hub_name(const std::string& model) {
  std::error_code ignored;
  return may_be_hub_name(model) && !fs::exists(model, ignored) &&
         find_resource("models/" + model).empty();
}

std::string name_for_peft(const std::string& model) {
  if (is_hub_name(model)) return model;
  fs::path path = fs::absolute(resolve_model(model)).lexically_normal();
  if (!path.has_filename()) path = path.parent_path();  // "folder/"
  const fs::path name = path.filename();
  const bool folders_own = name == "model.safetensors" || name == "pytorch_model.bin";
  std::error_code ignored;
  return folders_own && fs::exists(path.parent_path() / "config.json", ignored)
             ? path.parent_path().string()
             : path.string();
}

fs::path base_model(const fs::path& resolved_model) {
  if (!is_adapter(resolved_model)) return resolved_model;
  const std::string name = read_adapter_config(resolved_model).base_model_name_or_path;
  const fs::path file = resolved_model / "adapter_config.json";
  const std::string next =
      "write the model's folder, or what `model` calls it, as \"base_model_name_or_path\" into "_named +
      file.string();
  const auto refuse = [&](const std::string& what, std::vector<std::string> details) {
    throw Error(Fault::bad_data, resolved_model.string() + " is an adapter " + what,
                std::move(details), next);
  };
  if (name.empty()) refuse("that does not say of which model", {});
  fs::path base;
  std::error_code trouble;
  if (fs::exists(resolved_model / name, trouble)) {
    base = resolved_model / name;
  } else {
    try {
      base = resolve_model(name);
    } catch (const Error& error) {
      std::vector<std::string> looked = error.details();
      looked.insert(looked.begin(), "no file or folder " + (resolved_model / name).string());
      refuse("of the model '" + name + "', which is not there", std::move(looked));
    }
  }
  if (is_adapter(base)) refuse("of another adapter", {base.string() + " is one, too"});
  return base;
}

fs::path config_folder(const fs::path& resolved_model) {
  const fs::path model = base_model(resolved_model);
  std::error_code trouble;
  return fs::is_directory(model, trouble) ? model : model.parent_path();
}

bool has_more_than_config(const fs::path& resolved_model) {
  std::error_code trouble;
  if (fs::is_directory(resolved_model, trouble)) {
    return is_adapter(resolved_model) || holds_weights(resolved_model);
  }
  return resolved_model.extension() != ".json" || is_weight_file(resolved_model);
}

LoadedModel load_resolved(Device& device, const fs::path& resolved_model, WeightStorage storage) {
  const fs::path base = base_model(resolved_model);
  if (std::error_code ignored; fs::is_directory(base, ignored) && !holds_weights(base)) {
    throw Error(Fault::bad_data, base.string() + " holds no weights",
                with_how_to_get({"it has a config.json and no model.safetensors"}, base),
                models_to_try());
  }
  if (!is_adapter(resolved_model)) return load_model(device, base, storage);
  // An adapter is added to elements; what it makes of them is rounded once.
  const std::optional<Quantisation> quantisation = quantisation_of(storage);
  if (quantisation) check_quantised(device, resolved_config(resolved_model), *quantisation);
  const bool plain = quantisation || storage == WeightStorage::as_stored;
  LoadedModel merged = merge_adapter_folder(
      device, resolved_model, load_model(device, base, plain ? WeightStorage::plain : storage));
  if (!quantisation) return merged;
  const std::string note = note_of_unfit(merged.config, *quantisation);
  if (!note.empty()) merged.notes.push_back(note);
  return {merged.config, quantised(device, merged.config, merged.parameters, *quantisation),
          std::move(merged.notes)};
}

Gpt2Config resolved_config(const fs::path& resolved_model) {
  const fs::path beside = config_folder(resolved_model) / "config.json";
  std::error_code ignored;
  Gpt2Config config = fs::exists(beside, ignored)
                          ? read_config(beside)
                          : WeightFiles(base_model(resolved_model)).config();
  const int rows = is_adapter(resolved_model) ? adapted_vocab_size(resolved_model) : 0;
  if (rows > 0) config.vocab_size = rows;
  return config;
}

std::optional<fs::path> find_whole_model(const std::string& model) {
  try {
    const fs::path folder = resolve_model(model);
    if (holds_weights(config_folder(folder)) && has_tokenizer(folder)) {
      return folder;
    }
  } catch (const Error&) {  // not there, or half of it
  }
  return std::nullopt;
}

}  // namespace quire

#include "pipeline/model_tokenizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/text.h"
#include "engine/formats/adapter_folder.h"
#include "engine/formats/weight_files.h"
#include "pipeline/get_model.h"
#include "pipeline/model_path.h"

namespace quire {

namespace fs = std::filesystem;

namespace {

constexpr std::string_view kGguf = ".gguf";

bool gguf_has_tokens(const fs::path& file) {
  return !Gguf(file).strings("tokenizer.ggml.tokens").empty();
}

/// The GGUF file of a folder. Throws where there are several, and nothing else.
std::optional<fs::path> gguf_in(const fs::path& folder) {
  std::error_code ignored;
  std::vector<fs::path> found;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, ignored)) {
    if (entry.path().extension() == kGguf) found.push_back(entry.path());
  }
  if (found.size() == 1) return found[0];
  // With a config.json they lie beside the model that it is of.
  if (found.empty() || fs::exists(folder / "config.json", ignored)) return {};
  std::sort(found.begin(), found.end());
  throw Error(
      Fault::bad_data, folder.string() + " holds several models",
      {fmt::format("{} and {}", found[0].filename().string(), found[1].filename().string())},
      "name one of the files");
}

/// Where a tokenizer is read from, if there is one.
std::optional<fs::path> place_of(const fs::path& resolved_model) {
  if (is_adapter(resolved_model) && Tokenizer::exists(resolved_model)) return resolved_model;
  const fs::path model = base_model(resolved_model);
  std::error_code ignored;
  const bool is_folder = fs::is_directory(model, ignored);
  if (!is_folder) {
    if (model.extension() == kGguf && gguf_has_tokens(model)) return model;
    if (Tokenizer::exists(model)) return model;
  }
  const fs::path folder = config_folder(model);
  if (Tokenizer::exists(folder)) return folder;
  if (!is_folder) return {};  // a GGUF beside a file is another model
  const std::optional<fs::path> file = gguf_in(folder);
  if (!file || !gguf_has_tokens(*file)) return {};
  return file;
}

}  // namespace

bool has_tokenizer(const fs::path& resolved_model) {
  return place_of(resolved_model).has_value();
}

fs::path tokenizer_place(const fs::path& resolved_model, const std::string& named) {
  if (named.empty()) {
    const std::optional<fs::path> place = place_of(resolved_model);
    return place ? *place : config_folder(resolved_model);
  }
  const fs::path path = resolve_tokenizer(named);
  std::error_code ignored;
  // A tokenizer.json by another name; of a model, config.json stands for its folder.
  const bool is_json = fs::is_regular_file(path, ignored) && path.extension() == ".json" &&
                       path.filename() != "config.json";
  return is_json ? path : tokenizer_place(path);
}

Tokenizer tokenizer_of(const fs::path& resolved_model, const std::string& named) {
  const fs::path place = tokenizer_place(resolved_model, named);
  std::error_code ignored;
  const bool is_gguf = place.extension() == kGguf && !fs::is_directory(place, ignored);
  return is_gguf ? gguf_tokenizer(Gguf(place)) : Tokenizer::load(place);
}

Tokenizer named_tokenizer(const std::string& name) {
  return tokenizer_of({}, name);
}

fs::path resolve_tokenizer(const std::string& name) {
  std::error_code ignored;
  if (!name.empty() && fs::exists(name, ignored)) return name;
  return resolve_model(name);
}

std::int64_t context_beside(const fs::path& resolved_tokenizer) {
  const fs::path path = config_folder(resolved_tokenizer) / "config.json";
  std::error_code ignored;
  if (!fs::exists(path, ignored)) {  // GGUF's is in the weights
    const bool is_model = fs::is_directory(resolved_tokenizer, ignored)
                              ? has_weights(resolved_tokenizer)
                              : !Tokenizer::exists(resolved_tokenizer);
    try {
      return is_model ? resolved_config(resolved_tokenizer).n_positions : 0;
    } catch (const Error&) {  // several models, or one that is not read: the tokenizer is
      return 0;
    }
  }
  const nlohmann::json config = parse_json_or_discard<nlohmann::json>(read_file(path));
  if (!config.is_object() || !config.contains("n_positions")) return 0;
  const nlohmann::json& context = config["n_positions"];
  return context.is_number_integer() ? std::max<std::int64_t>(context.get<std::int64_t>(), 0) : 0;
}

}  // namespace quire

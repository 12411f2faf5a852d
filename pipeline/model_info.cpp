#include "pipeline/model_info.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <span>
#include <utility>

#include "base/error.h"
#include "base/json.h"
#include "base/text.h"
#include "engine/formats/adapter_folder.h"
#include "engine/formats/hub_folder.h"
#include "engine/formats/llmc_checkpoint.h"
#include "engine/formats/weight_files.h"
#include "engine/model/parameters.h"
#include "pipeline/tensor_values.h"

namespace quire {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

std::string format_of(const TensorSource& source) {
  struct Ending {
    std::string_view of_name;
    const char* format;
  };
  constexpr Ending kEndings[] = {{".safetensors", "safetensors"},
                                 {".safetensors.index.json", "safetensors"},
                                 {".gguf", "GGUF"},
                                 {".index", "TensorFlow"}};
  const std::string name = source.path().filename().string();
  for (const Ending& ending : kEndings) {
    if (name.ends_with(ending.of_name)) return ending.format;
  }
  const bool llmc = !source.tensors().empty() &&
                    begins_as_llmc(source.tensors().front().file->text().substr(0, 16));
  return llmc ? "llm.c" : "PyTorch";
}

/// A config.json of a model that Quire does not run, and not of a GPT-2 with something wrong.
bool is_of_other_kind(const fs::path& config_json) {
  const Json json = parse_json_file<Json>(config_json);
  return json.is_object() && ((json.contains("model_type") && json["model_type"].is_string() &&
                               json["model_type"] != "gpt2") ||
                              json.contains("quantization_config") ||
                              json.value("add_cross_attention", Json()) == true);
}

void read_config_of(ModelInfo& info) {
  const fs::path beside = info.source.path().parent_path() / "config.json";
  std::error_code ignored;
  if (fs::exists(beside, ignored)) {
    try {
      info.config = read_config(beside);
      info.config_from = beside.filename().string();
    } catch (const Error& error) {
      if (!is_of_other_kind(beside)) throw;
      info.foreign = error.what();
    }
  } else if (info.source.config()) {
    info.config = info.source.config();
    info.config_from = info.source.config_origin();
  } else {
    try {
      const WeightFiles files(info.source.path());
      info.config = files.config();
      info.config_from = files.config_origin();
    } catch (const Error& error) {
      info.foreign = error.what();
      for (const std::string& detail : error.details()) info.foreign += ": " + detail;
    }
  }
}

/// The first four of a list of names.
std::string some_of(const std::vector<std::string>& names) {
  constexpr std::size_t kShown = 4;
  const std::span<const std::string> first(names.data(), std::min(kShown, names.size()));
  return fmt::format(
      "{}{}", fmt::join(first, ", "),
      names.size() > kShown ? fmt::format(" and {} more", names.size() - kShown) : "");
}

/// Holds the tensors against the config: what each is, and what is missing or does not fit.
class Matching {
 public:
  explicit Matching(ModelInfo& info) : info_(info) {
    for (std::size_t i = 0; i < info.source.tensors().size(); ++i) {
      places_.emplace(bare_name(info.source.tensors()[i].name), i);
    }
  }

  void run() {
    Gpt2Config& config = *info_.config;
    const bool head = places_.contains("lm_head.weight"), table = places_.contains("wte.weight");
    config.tie_word_embeddings = !head || (config.tie_word_embeddings && !(table && unlike_head()));
    if (head && config.tie_word_embeddings) {
      // Where there is no wte.weight, the head stands for it.
      if (table) info_.kinds[places_["lm_head.weight"]] = TensorKind::tied_head;
      if (!table) places_["wte.weight"] = places_["lm_head.weight"];
    }
    const std::vector<NamedParameter> list = parameter_list(config);
    for (const NamedParameter& parameter : list) match(parameter);
    if (missing_.size() == list.size()) {
      info_.foreign = "none of its tensors is one of a GPT-2's";
      return;
    }
    if (!missing_.empty()) {
      info_.trouble.push_back(fmt::format("{} of {} tensors are missing: {}", missing_.size(),
                                          list.size(), some_of(missing_)));
    }
    check_blocks();
  }

 private:
  /// A head of another shape is no second copy of the table.
  bool unlike_head() {
    const std::vector<FileTensor>& tensors = info_.source.tensors();
    return tensors[places_["lm_head.weight"]].shape != tensors[places_["wte.weight"]].shape;
  }

  void match(const NamedParameter& parameter) {
    const auto place = places_.find(bare_name(parameter.name));
    if (place == places_.end()) {
      missing_.push_back(parameter.name);
      return;
    }
    const FileTensor& tensor = info_.source.tensors()[place->second];
    info_.kinds[place->second] = TensorKind::parameter;
    const std::vector<std::int64_t> wanted = extents_of(parameter.shape);
    if (tensor.shape != wanted) {
      info_.trouble.push_back(fmt::format("tensor '{}' has the shape {}, the config wants {}",
                                          tensor.name, to_string(tensor.shape), to_string(wanted)));
    } else if (!has_values(tensor)) {
      info_.trouble.push_back(
          fmt::format("tensor '{}' is of type {}", tensor.name, tensor.dtype_name()));
    }
  }

  void check_blocks() {
    const std::string beyond = fmt::format("h.{}.", info_.config->n_layer);
    const auto first = places_.lower_bound(beyond);
    if (first != places_.end() && first->first.starts_with(beyond)) {
      info_.trouble.push_back(fmt::format("it has blocks beyond n_layer, which is {}: tensor '{}'",
                                          info_.config->n_layer,
                                          info_.source.tensors()[first->second].name));
    }
  }

  ModelInfo& info_;
  std::map<std::string, std::size_t> places_;  // by bare name
  std::vector<std::string> missing_;
};

std::int64_t count_parameters(const ModelInfo& info) {
  const bool gpt2 = info.foreign.empty() && !info.adapter;
  std::int64_t count = 0;
  for (std::size_t i = 0; i < info.kinds.size(); ++i) {
    if (gpt2 ? info.kinds[i] == TensorKind::parameter : info.kinds[i] != TensorKind::old_mask) {
      count += info.source.tensors()[i].count();
    }
  }
  return count;
}

}  // namespace

ModelInfo model_info(const fs::path& folder_or_file) {
  constexpr const char* kAdapter = "adapter_model.safetensors";
  const fs::path folder =
      folder_or_file.filename() == kAdapter ? folder_or_file.parent_path() : folder_or_file;
  const bool adapter = is_adapter(folder);
  ModelInfo info{.source = open_source(adapter ? folder / kAdapter : folder_or_file)};
  info.format = format_of(info.source);
  for (const FileTensor& tensor : info.source.tensors()) {
    const fs::path& file = tensor.file->path();
    if (std::find(info.files.begin(), info.files.end(), file) == info.files.end()) {
      info.files.push_back(file);
      info.file_bytes += tensor.file->bytes().size();
    }
    info.kinds.push_back(is_old_buffer(bare_name(tensor.name)) ? TensorKind::old_mask
                                                               : TensorKind::other);
  }
  if (adapter) {
    info.adapter = read_adapter_config(folder);
  } else {
    read_config_of(info);
  }
  if (info.config) Matching(info).run();
  if (!info.foreign.empty()) info.config.reset();
  info.parameters = count_parameters(info);
  info.tokenizer = tokenizer_info(info.source);
  return info;
}

std::string openai_size(const Gpt2Config& config) {
  struct Size {
    const char *preset, *name;
  };
  constexpr Size kSizes[] = {{"gpt2", "GPT-2 124M"},
                             {"gpt2-medium", "GPT-2 355M"},
                             {"gpt2-large", "GPT-2 774M"},
                             {"gpt2-xl", "GPT-2 1558M"}};
  for (const Size& size : kSizes) {
    const Gpt2Config known = *Gpt2Config::preset(size.preset);
    if (config.n_layer == known.n_layer && config.n_head == known.n_head &&
        config.parameter_count() == known.parameter_count()) {
      return size.name;
    }
  }
  return "";
}

std::map<std::string, TypeCount> type_counts(const TensorSource& source) {
  std::map<std::string, TypeCount> counts;
  for (const FileTensor& tensor : source.tensors()) {
    TypeCount& type = counts[tensor.dtype_name()];
    ++type.tensors;
    type.elements += tensor.count();
    type.bytes += tensor.bytes.size();
  }
  return counts;
}

}  // namespace quire

#include "engine/formats/adapter_folder.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/json.h"
#include "engine/formats/safetensors.h"
#include "engine/formats/weight_files.h"
#include "engine/model/elements.h"

namespace quire {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr const char* kConfig = "adapter_config.json";
constexpr const char* kWeights = "adapter_model.safetensors";

std::string to_json(const LoraConfig& lora, const std::string& base_model_name_or_path) {
  const Json layers = lora.layers_to_transform.empty() ? Json() : Json(lora.layers_to_transform);
  // A float that was given as 0.1 is written as 0.1.
  const auto number = [](float value) { return parse_json<Json>(fmt::format("{}", value)); };
  const Json json = {{"alpha_pattern", Json::object()},
                     {"auto_mapping", nullptr},
                     {"base_model_name_or_path", base_model_name_or_path},
                     {"bias", "none"},
                     {"fan_in_fan_out", true},
                     {"inference_mode", true},
                     {"init_lora_weights", true},
                     {"layers_to_transform", layers},
                     {"lora_alpha", number(lora.lora_alpha)},
                     {"lora_dropout", number(lora.lora_dropout)},
                     {"modules_to_save", nullptr},
                     {"peft_type", "LORA"},
                     {"r", lora.r},
                     {"rank_pattern", Json::object()},
                     {"revision", nullptr},
                     {"target_modules", lora.target_modules},
                     {"task_type", "CAUSAL_LM"},
                     {"use_dora", false},
                     {"use_rslora", lora.use_rslora}};
  return json_text(json, 2) + "\n";
}

/// Whether a tensor is all of an embedding or of the head, as PEFT saves them with an adapter whose
/// model got new rows.
bool is_table(const std::string& name) {
  const std::string module = name.substr(0, name.rfind('.'));
  return name.ends_with(".weight") && name.find(".lora_") == std::string::npos &&
         (module.starts_with("base_model.model.transformer.wte") ||
          module.starts_with("base_model.model.lm_head"));
}

}  // namespace

const FileTensor& adapter_tensor(const TensorSource& file, const std::string& name,
                                 const std::vector<std::int64_t>& extents,
                                 const std::string& wanted_by, const std::string& shaped_by) {
  const FileTensor* tensor = file.find(name);
  if (tensor == nullptr) {
    throw Error(Fault::bad_data, file.path().string() + " has no tensor " + name,
                {wanted_by + " wants it"});
  }
  std::vector<std::int64_t> wanted = extents;
  bool fits = tensor->shape.size() == wanted.size();
  for (std::size_t i = 0; fits && i < wanted.size(); ++i) {
    if (wanted[i] < 0) wanted[i] = tensor->shape[i];
    fits = tensor->shape[i] == wanted[i] && wanted[i] > 0;
  }
  if (!fits) {
    throw Error(Fault::bad_data, tensor->where() + " does not fit",
                {fmt::format("it has the shape {}, {} and model want {}", to_string(tensor->shape),
                             shaped_by, to_string(wanted))},
                "the model that the adapter was trained on");
  }
  tensor->check_weight();
  return *tensor;
}

bool is_adapter(const fs::path& folder) {
  std::error_code ignored;
  return fs::exists(folder / kConfig, ignored) && !has_weights(folder);
}

int adapted_vocab_size(const fs::path& folder) {
  if (std::error_code ignored; !fs::exists(folder / kWeights, ignored)) return 0;
  const TensorSource file = Safetensors(folder / kWeights);
  for (const FileTensor& tensor : file.tensors()) {
    if (is_table(tensor.name) && tensor.shape.size() == 2 && tensor.shape[0] <= INT32_MAX) {
      return static_cast<int>(tensor.shape[0]);
    }
  }
  return 0;
}

LoraAdapter load_adapter(Device& device, const fs::path& folder, const Gpt2Config& config) {
  const fs::path path = folder / kWeights;
  if (std::error_code ignored; !fs::exists(path, ignored)) {
    throw Error(Fault::bad_data, folder.string() + " has no " + kWeights,
                {std::string("only its ") + kConfig + " is there"});
  }
  const AdapterConfig read = read_adapter_config(folder);
  if (!read.beyond.empty()) {
    throw Error(Fault::bad_data,
                fmt::format("{}: {}", (folder / kConfig).string(), read.beyond.front()),
                {"such an adapter can be used, and not be trained on"},
                "merge it first: PEFT's merge_and_unload()");
  }
  const LoraConfig& lora = read.lora;
  std::vector<NamedParameter> list;
  try {
    list = adapter_list(config, lora);
  } catch (const Error& error) {  // a rank or a module that makes no sense is the file's fault here
    std::vector<std::string> details = error.details();
    details.insert(details.begin(), error.what());
    throw Error(Fault::bad_data, (folder / kConfig).string() + " does not fit the model", details);
  }
  const TensorSource file = Safetensors(path);
  std::vector<const FileTensor*> tensors;
  tensors.reserve(list.size());
  const std::string targets = fmt::format("\"target_modules\" in {}", kConfig);
  for (const NamedParameter& wanted : list) {
    tensors.push_back(
        &adapter_tensor(file, wanted.name, extents_of(wanted.shape), targets, "rank"));
  }
  for (const FileTensor& tensor : file.tensors()) {
    const bool wanted = std::ranges::count(list, tensor.name, &NamedParameter::name) > 0;
    if (wanted || is_table(tensor.name)) continue;
    throw Error(Fault::bad_data, tensor.where() + " belongs to no product of a block",
                {fmt::format("{} does not name it", kConfig)});
  }

  LoraAdapter adapter(device, config, lora);
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    upload(device, tensors[i]->read_weight(), adapter.tensors()[i]);
  }
  return adapter;
}

void save_adapter(Device& device, const fs::path& folder, const LoraAdapter& adapter,
                  const std::string& base_model_name_or_path, const Parameters* tables) {
  std::vector<TensorToWrite> tensors;
  for (std::size_t i = 0; i < adapter.names().size(); ++i) {
    tensors.push_back({adapter.names()[i].name, adapter.tensors()[i]});
  }
  if (tables != nullptr) {  // a tied head under its own name, too, as PEFT has it
    tensors.push_back({"base_model.model.transformer.wte.weight", tables->wte()});
    tensors.push_back({"base_model.model.lm_head.weight", tables->head().view()});
  }
  save_weights(device, folder / kWeights, std::move(tensors),
               {{kConfig, to_json(adapter.config(), base_model_name_or_path)}},
               [](const std::string& what, const std::string& /*where*/) {
                 return Error(Fault::diverged, "the adapter was not saved: " + what, {},
                              "go on from the last good checkpoint, with a lower learning rate");
               });
}

}  // namespace quire

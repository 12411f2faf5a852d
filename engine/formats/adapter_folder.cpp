#include "engine/formats/adapter_folder.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "engine/formats/safetensors.h"
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

/// The file's tensor for an entry of the adapter, checked.
const FileTensor& match(const Safetensors& file, const NamedParameter& wanted) {
  const std::string path = file.path().string();
  const FileTensor* tensor = file.find(wanted.name);
  if (tensor == nullptr) {
    throw Error(Fault::bad_data, path + " has no tensor " + wanted.name,
                {fmt::format("\"target_modules\" in {} wants it", kConfig)});
  }
  if (tensor->shape != std::vector<std::int64_t>{wanted.shape[0], wanted.shape[1]}) {
    throw Error(Fault::bad_data, fmt::format("{}: tensor '{}' does not fit", path, wanted.name),
                {fmt::format("it has the shape {}, rank and model want {}",
                             to_string(tensor->shape), wanted.shape.to_string())},
                "the model that the adapter was trained on");
  }
  if (!tensor->has_dtype() || tensor->dtype() == DType::i32) {
    throw Error(Fault::bad_data,
                fmt::format("{}: tensor '{}' is of type {}", path, wanted.name, tensor->dtype_name),
                {"weights are F32, F16 or BF16"});
  }
  const std::byte* data = tensor->bytes.data();
  if (const auto bad = find_not_finite(data, tensor->dtype(), wanted.shape.count())) {
    throw Error(Fault::bad_data,
                fmt::format("{}: tensor '{}' holds {} at element {}", path, wanted.name,
                            element(data, tensor->dtype(), *bad), *bad),
                {"the file is damaged, or its training diverged"});
  }
  return *tensor;
}

}  // namespace

bool is_adapter(const fs::path& folder) {
  std::error_code ignored;
  return fs::exists(folder / kConfig, ignored) &&
         !fs::exists(folder / "model.safetensors", ignored) &&
         !fs::exists(folder / "model.safetensors.index.json", ignored);
}

int adapted_vocab_size(const fs::path& folder) {
  std::error_code ignored;
  if (!fs::exists(folder / kWeights, ignored)) return 0;
  const Safetensors file(folder / kWeights);
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
  const Safetensors file(path);
  std::vector<const FileTensor*> tensors;
  tensors.reserve(list.size());
  for (const NamedParameter& wanted : list) tensors.push_back(&match(file, wanted));
  for (const FileTensor& tensor : file.tensors()) {
    const auto same = [&](const NamedParameter& wanted) { return wanted.name == tensor.name; };
    if (std::any_of(list.begin(), list.end(), same) || is_table(tensor.name)) continue;
    throw Error(
        Fault::bad_data,
        fmt::format("{}: tensor '{}' belongs to no product of a block", path.string(), tensor.name),
        {fmt::format("{} does not name it", kConfig)});
  }

  LoraAdapter adapter(device, config, lora);
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const View to = adapter.tensors()[i];
    std::vector<float> values(static_cast<std::size_t>(to.count()));
    read_elements(tensors[i]->bytes.data(), tensors[i]->dtype(), values);
    device.copy_to_device(to.bytes(), values.data(), to.size_bytes());
    device.synchronize();  // `values` goes out of scope
  }
  return adapter;
}

void save_adapter(Device& device, const fs::path& folder, const LoraAdapter& adapter,
                  const std::string& base_model_name_or_path, const Parameters* tables) {
  std::vector<std::pair<std::string, View>> all;
  for (std::size_t i = 0; i < adapter.names().size(); ++i) {
    all.emplace_back(adapter.names()[i].name, adapter.tensors()[i]);
  }
  if (tables != nullptr) {  // a tied head under its own name, too, as PEFT has it
    all.emplace_back("base_model.model.transformer.wte.weight", tables->wte());
    all.emplace_back("base_model.model.lm_head.weight", tables->head());
  }
  std::vector<std::vector<std::byte>> copies;
  std::vector<TensorToWrite> tensors;
  for (const auto& [name, view] : all) {
    std::vector<std::byte>& copy = copies.emplace_back(view.size_bytes());
    device.copy_to_host(copy.data(), view.bytes(), copy.size());
    if (const auto bad = find_not_finite(copy.data(), view.dtype(), view.count())) {
      throw Error(Fault::diverged,
                  fmt::format("the adapter was not saved: tensor '{}' holds {}", name,
                              element(copy.data(), view.dtype(), *bad)),
                  {}, "go on from the last good checkpoint, with a lower learning rate");
    }
    tensors.push_back({name, ConstView(copy.data(), view.dtype(), view.shape())});
  }
  make_folder(folder);
  AtomicFile weights(folder / kWeights);
  write_safetensors(weights, tensors);
  write_file(folder / kConfig, to_json(adapter.config(), base_model_name_or_path));
  weights.commit();
}

}  // namespace quire

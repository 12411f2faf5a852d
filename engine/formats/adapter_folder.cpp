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

/// The fields of an adapter_config.json, each read with a check of its type.
class Fields {
 public:
  explicit Fields(const fs::path& path) : path_(path) {
    try {
      json_ = parse_json<Json>(read_file(path));
    } catch (const Json::exception& error) {
      throw Error(Fault::bad_data, path.string() + " is not valid JSON", {error.what()});
    }
    if (!json_.is_object()) throw Error(Fault::bad_data, path.string() + " is not a JSON object");
  }

  /// Null where the field is absent.
  const Json& operator[](const char* name) const {
    static const Json kNull;
    const auto found = json_.find(name);
    return found == json_.end() ? kNull : *found;
  }
  template <class T>
  T get(const char* name, T absent, const char* wanted) const {
    const Json& value = (*this)[name];
    if (value.is_null()) return absent;
    try {
      return value.get<T>();
    } catch (const Json::exception&) {
      refuse(name, wanted);
    }
  }
  /// Only the values that leave a plain LoRA adapter.
  void require_off(const char* name) const {
    const Json& value = (*this)[name];
    const bool off = value.is_null() || value == false || value == "none" ||
                     (value.is_structured() && value.empty());
    if (!off) refuse(name, "nothing: such adapters are not read");
  }
  [[noreturn]] void refuse(const char* name, const std::string& wanted) const {
    throw Error(Fault::bad_data,
                fmt::format("{}: \"{}\" is {}", path_.string(), name, json_text((*this)[name])),
                {"expected " + wanted});
  }

 private:
  fs::path path_;
  Json json_;
};

/// Names in the order of the file's list. PEFT writes the set it made of "all-linear" as a list,
/// too.
std::vector<std::string> read_targets(const Fields& fields) {
  const Json& targets = fields["target_modules"];
  if (!targets.is_array() || targets.empty()) fields.refuse("target_modules", "a list of names");
  return fields.get<std::vector<std::string>>("target_modules", {}, "a list of names");
}

std::vector<int> read_layers(const Fields& fields) {
  const Json& layers = fields["layers_to_transform"];
  if (layers.is_number_integer()) return {layers.get<int>()};
  return fields.get<std::vector<int>>("layers_to_transform", {}, "a list of blocks");
}

std::string to_json(const AdapterConfig& config) {
  const LoraConfig& lora = config.lora;
  const Json layers = lora.layers_to_transform.empty() ? Json() : Json(lora.layers_to_transform);
  // A float that was given as 0.1 is written as 0.1.
  const auto number = [](float value) { return parse_json<Json>(fmt::format("{}", value)); };
  const Json json = {{"alpha_pattern", Json::object()},
                     {"auto_mapping", nullptr},
                     {"base_model_name_or_path", config.base_model_name_or_path},
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

AdapterConfig read_adapter_config(const fs::path& folder) {
  const Fields fields(folder / kConfig);
  if (fields["peft_type"] != "LORA") fields.refuse("peft_type", "\"LORA\"");
  for (const char* name : {"bias", "modules_to_save", "rank_pattern", "alpha_pattern", "use_dora",
                           "lora_bias", "layer_replication", "trainable_token_indices",
                           "target_parameters", "use_qalora", "alora_invocation_tokens"}) {
    fields.require_off(name);
  }
  AdapterConfig config;
  if (!fields["r"].is_number_integer()) fields.refuse("r", "a whole number");
  config.lora.r = fields.get<int>("r", 0, "a whole number");
  config.lora.lora_alpha = fields.get<float>("lora_alpha", 8.0f, "a number");
  config.lora.lora_dropout = fields.get<float>("lora_dropout", 0.0f, "a number");
  config.lora.use_rslora = fields.get<bool>("use_rslora", false, "true or false");
  config.lora.target_modules = read_targets(fields);
  config.lora.layers_to_transform = read_layers(fields);
  config.base_model_name_or_path =
      fields.get<std::string>("base_model_name_or_path", "", "a path or a Hub name");
  return config;
}

LoraAdapter load_adapter(Device& device, const fs::path& folder, const Gpt2Config& config) {
  const fs::path path = folder / kWeights;
  if (std::error_code ignored; !fs::exists(path, ignored)) {
    throw Error(Fault::bad_data, folder.string() + " has no " + kWeights,
                {std::string("only its ") + kConfig + " is there"});
  }
  const LoraConfig lora = read_adapter_config(folder).lora;
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
    if (std::any_of(list.begin(), list.end(), same)) continue;
    throw Error(
        Fault::bad_data,
        fmt::format("{}: tensor '{}' belongs to no product of a block", path.string(), tensor.name),
        {"adapters of embeddings and of the head are not read"});
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
                  const std::string& base_model_name_or_path) {
  std::vector<std::vector<std::byte>> copies;
  std::vector<TensorToWrite> tensors;
  for (std::size_t i = 0; i < adapter.names().size(); ++i) {
    const View view = adapter.tensors()[i];
    std::vector<std::byte>& copy = copies.emplace_back(view.size_bytes());
    device.copy_to_host(copy.data(), view.bytes(), copy.size());
    if (const auto bad = find_not_finite(copy.data(), view.dtype(), view.count())) {
      throw Error(Fault::diverged,
                  fmt::format("the adapter was not saved: tensor '{}' holds {}",
                              adapter.names()[i].name, element(copy.data(), view.dtype(), *bad)),
                  {}, "go on from the last good checkpoint, with a lower learning rate");
    }
    tensors.push_back(
        {adapter.names()[i].name, ConstView(copy.data(), view.dtype(), view.shape())});
  }
  std::error_code failed;
  fs::create_directories(folder, failed);
  if (failed) {
    throw Error(Fault::bad_data, "cannot make the folder " + folder.string(), {failed.message()});
  }
  AtomicFile weights(folder / kWeights);
  write_safetensors(weights, tensors);
  write_file(folder / kConfig, to_json({adapter.config(), base_model_name_or_path}));
  weights.commit();
}

}  // namespace quire

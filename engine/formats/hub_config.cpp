// config.json and generation_config.json of a Hugging Face folder.
#include <fmt/format.h>

#include <initializer_list>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/error.h"
#include "base/file.h"
#include "base/foreign_file.h"
#include "base/json.h"
#include "engine/formats/hub_folder.h"

namespace quire {
namespace {

using Json = nlohmann::json;

// The fields of a config.json, each read with a check of its type. A field may be absent: then the
// target keeps its default. transformers knows some fields under a second name.
class Fields {
 public:
  Fields(const std::filesystem::path& path, const Json& json) : path_(path), json_(json) {}

  void read(int& target, std::initializer_list<const char*> names) const {
    const auto [name, value] = find(names);
    if (value == nullptr) return;
    target = whole_number(name, *value);
  }
  void read(float& target, const char* name) const {
    const Json* value = find({name}).second;
    if (value == nullptr) return;
    if (!value->is_number()) refuse(name, *value, "a number");
    target = value->get<float>();
  }
  void read(bool& target, const char* name) const {
    const Json* value = find({name}).second;
    if (value == nullptr) return;
    if (!value->is_boolean()) refuse(name, *value, "true or false");
    target = value->get<bool>();
  }
  // A token's id: absent keeps the default, null means none. Of a list the first counts.
  void read(std::optional<int>& target, const char* name) const {
    if (!json_.contains(name)) return;
    const Json* value = &json_[name];
    if (value->is_array() && !value->empty()) value = &value->front();
    target = value->is_null() ? std::nullopt : std::optional(whole_number(name, *value));
  }
  const std::string* text(const char* name) const {
    const Json* value = find({name}).second;
    if (value == nullptr) return nullptr;
    if (!value->is_string()) refuse(name, *value, "a string");
    return value->get_ptr<const std::string*>();
  }

 private:
  std::pair<const char*, const Json*> find(std::initializer_list<const char*> names) const {
    for (const char* name : names) {
      if (json_.contains(name) && !json_[name].is_null()) return {name, &json_[name]};
    }
    return {nullptr, nullptr};
  }
  int whole_number(const char* name, const Json& value) const {
    if (!value.is_number_integer()) refuse(name, value, "a whole number");
    const std::optional<std::int32_t> number = int32_of(value);
    if (!number) refuse(name, value, "a whole number of 32 bits");
    return *number;
  }
  [[noreturn]] void refuse(const char* name, const Json& value, const char* wanted) const {
    throw Error(Fault::bad_data,
                path_.string() + ": " + name + " is " + json_text(value) + ", not " + wanted);
  }

  const std::filesystem::path& path_;
  const Json& json_;
};

// 0.1f as 0.1, not as 0.10000000149011612.
double shortest(float value) {
  return std::stod(fmt::format("{}", value));
}

Json number_or_null(const std::optional<int>& value) {
  return value ? Json(*value) : Json(nullptr);
}

}  // namespace

Gpt2Config read_config(const std::filesystem::path& config_json) {
  const std::string text = read_file(config_json);
  Json json;
  try {
    json = parse_json<Json>(text);
  } catch (const Json::exception& error) {
    throw unusable_file(config_json.string() + " is not valid JSON", text, json_trouble(error));
  }
  if (!json.is_object()) {
    throw Error(Fault::bad_data, config_json.string() + " is not a model's configuration",
                {std::string("it holds a JSON ") + json.type_name() + ", not an object"});
  }
  const Fields fields(config_json, json);
  const std::string* model_type = fields.text("model_type");
  if (model_type != nullptr && *model_type != "gpt2") {
    throw Error(Fault::bad_data, config_json.string() + ": model_type is \"" + *model_type +
                                     "\", Quire runs \"gpt2\"");
  }
  bool cross_attention = false;
  fields.read(cross_attention, "add_cross_attention");
  if (cross_attention) {
    throw Error(Fault::bad_data, config_json.string() + ": add_cross_attention is true",
                {"Quire runs decoders without an encoder"});
  }
  if (json.contains("quantization_config")) {
    throw Error(Fault::bad_data, config_json.string() + ": the weights are quantized",
                {"quantization_config is " + json_text(json["quantization_config"])},
                "use the original model, in float32, float16 or bfloat16");
  }

  Gpt2Config config;
  fields.read(config.vocab_size, {"vocab_size"});
  fields.read(config.n_positions, {"n_positions", "max_position_embeddings"});
  fields.read(config.n_embd, {"n_embd", "hidden_size"});
  fields.read(config.n_layer, {"n_layer", "num_hidden_layers"});
  fields.read(config.n_head, {"n_head", "num_attention_heads"});
  fields.read(config.n_inner, {"n_inner"});
  fields.read(config.resid_pdrop, "resid_pdrop");
  fields.read(config.embd_pdrop, "embd_pdrop");
  fields.read(config.attn_pdrop, "attn_pdrop");
  fields.read(config.layer_norm_epsilon, "layer_norm_epsilon");
  fields.read(config.initializer_range, "initializer_range");
  fields.read(config.scale_attn_weights, "scale_attn_weights");
  fields.read(config.scale_attn_by_inverse_layer_idx, "scale_attn_by_inverse_layer_idx");
  fields.read(config.reorder_and_upcast_attn, "reorder_and_upcast_attn");
  fields.read(config.tie_word_embeddings, "tie_word_embeddings");
  fields.read(config.bos_token_id, "bos_token_id");
  fields.read(config.eos_token_id, "eos_token_id");
  fields.read(config.pad_token_id, "pad_token_id");
  // A small vocabulary whose config does not name these has none: GPT-2's own id is outside of it.
  for (auto [name, id] : {std::pair("bos_token_id", &config.bos_token_id),
                          std::pair("eos_token_id", &config.eos_token_id)}) {
    if (!json.contains(name) && *id >= config.vocab_size) *id = std::nullopt;
  }
  const std::string* activation = fields.text("activation_function");
  try {
    if (activation != nullptr) config.activation_function = activation_from_name(*activation);
    config.check();
  } catch (const Error& error) {
    const std::string what = error.what();
    const std::string bare = what.starts_with("config: ") ? what.substr(8) : what;
    throw Error(error.fault(), config_json.string() + ": " + bare, error.details(), error.next());
  }
  return config;
}

std::string config_to_json(const Gpt2Config& config, DType dtype) {
  const Json json = {
      {"activation_function", name_of(config.activation_function)},
      {"add_cross_attention", false},
      {"architectures", {"GPT2LMHeadModel"}},
      {"attn_pdrop", shortest(config.attn_pdrop)},
      {"bos_token_id", number_or_null(config.bos_token_id)},
      {"dtype", name_of(dtype)},
      {"embd_pdrop", shortest(config.embd_pdrop)},
      {"eos_token_id", number_or_null(config.eos_token_id)},
      {"initializer_range", shortest(config.initializer_range)},
      {"layer_norm_epsilon", shortest(config.layer_norm_epsilon)},
      {"model_type", "gpt2"},
      {"n_embd", config.n_embd},
      {"n_head", config.n_head},
      {"n_inner", config.n_inner > 0 ? Json(config.n_inner) : Json(nullptr)},
      {"n_layer", config.n_layer},
      {"n_positions", config.n_positions},
      {"pad_token_id", number_or_null(config.pad_token_id)},
      {"reorder_and_upcast_attn", config.reorder_and_upcast_attn},
      {"resid_pdrop", shortest(config.resid_pdrop)},
      {"scale_attn_by_inverse_layer_idx", config.scale_attn_by_inverse_layer_idx},
      {"scale_attn_weights", config.scale_attn_weights},
      {"summary_activation", nullptr},
      {"summary_first_dropout", 0.1},
      {"summary_proj_to_labels", true},
      {"summary_type", "cls_index"},
      {"summary_use_proj", true},
      {"tie_word_embeddings", config.tie_word_embeddings},
      {"use_cache", true},
      {"vocab_size", config.vocab_size},
  };
  return json_text(json, 2) + "\n";
}

std::string generation_config_to_json(const Gpt2Config& config) {
  Json json = {{"_from_model_config", true}, {"use_cache", true}};
  if (config.bos_token_id) json["bos_token_id"] = *config.bos_token_id;
  if (config.eos_token_id) json["eos_token_id"] = *config.eos_token_id;
  if (config.pad_token_id) json["pad_token_id"] = *config.pad_token_id;
  return json_text(json, 2) + "\n";
}

}  // namespace quire

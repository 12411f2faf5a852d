// config.json and generation_config.json of a Hugging Face folder.
#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <optional>

#include "base/error.h"
#include "base/json.h"
#include "engine/formats/hub_folder.h"

namespace quire {
namespace {

using Json = nlohmann::ordered_json;

// 0.1f as 0.1, not as 0.10000000149011612.
double shortest(float value) {
  return std::stod(fmt::format("{}", value));
}

Json number_or_null(const std::optional<int>& value) {
  return value ? Json(*value) : Json(nullptr);
}

}  // namespace

Gpt2Config read_config(const std::filesystem::path& config_json) {
  const std::string file = config_json.string();
  const Json json = parse_json_file<Json>(config_json);
  if (!json.is_object()) {
    throw Error(Fault::bad_data, file + " is not a model's configuration",
                {fmt::format("it holds a JSON {}, not an object", json.type_name())});
  }
  const auto refusal = [&](const std::string& name, const Json& value, const std::string& wanted,
                           const std::string& next) {
    return Error(Fault::bad_data,
                 fmt::format("{}: {} is {}, not {}", file, name, json_text(value), wanted), {},
                 next);
  };
  JsonFields<Json> fields(json, file, refusal);
  std::string model_type = "gpt2";
  fields.read("model_type", model_type);
  if (model_type != "gpt2") {
    throw Error(Fault::bad_data,
                fmt::format("{}: model_type is \"{}\", Quire runs \"gpt2\"", file, model_type));
  }
  bool cross_attention = false;
  fields.read("add_cross_attention", cross_attention);
  if (cross_attention) {
    throw Error(Fault::bad_data, file + ": add_cross_attention is true",
                {"Quire runs decoders without an encoder"});
  }
  if (json.contains("quantization_config")) {
    throw Error(Fault::bad_data, file + ": the weights are quantized",
                {"quantization_config is " + json_text(json["quantization_config"])},
                "use the original model, in float32, float16 or bfloat16");
  }

  Gpt2Config config;
  // transformers knows some fields under a second name.
  const auto read = [&](const char* name, const char* second, int& into) {
    fields.read(fields[name].is_null() ? second : name, into);
  };
  fields.read("vocab_size", config.vocab_size);
  read("n_positions", "max_position_embeddings", config.n_positions);
  read("n_embd", "hidden_size", config.n_embd);
  read("n_layer", "num_hidden_layers", config.n_layer);
  read("n_head", "num_attention_heads", config.n_head);
  fields.read("n_inner", config.n_inner);
  fields.read("resid_pdrop", config.resid_pdrop);
  fields.read("embd_pdrop", config.embd_pdrop);
  fields.read("attn_pdrop", config.attn_pdrop);
  fields.read("layer_norm_epsilon", config.layer_norm_epsilon);
  fields.read("initializer_range", config.initializer_range);
  fields.read("scale_attn_weights", config.scale_attn_weights);
  fields.read("scale_attn_by_inverse_layer_idx", config.scale_attn_by_inverse_layer_idx);
  fields.read("reorder_and_upcast_attn", config.reorder_and_upcast_attn);
  fields.read("tie_word_embeddings", config.tie_word_embeddings);
  // A token's id: absent keeps the default, null means none. Of a list the first counts.
  const auto read_id = [&](const char* name, std::optional<int>& into) {
    if (!json.contains(name)) return;
    const Json& ids = json[name];
    const Json& id = ids.is_array() && !ids.empty() ? ids.front() : ids;
    into.reset();
    if (id.is_null() || read_json(id, into.emplace())) return;
    throw refusal(name, id, wanted_json<int>(id), "");
  };
  read_id("bos_token_id", config.bos_token_id);
  read_id("eos_token_id", config.eos_token_id);
  read_id("pad_token_id", config.pad_token_id);
  // A small vocabulary whose config does not name these has none: GPT-2's own id is outside of it.
  for (auto [name, id] : {std::pair("bos_token_id", &config.bos_token_id),
                          std::pair("eos_token_id", &config.eos_token_id)}) {
    if (!json.contains(name) && *id >= config.vocab_size) *id = std::nullopt;
  }
  std::string activation = name_of(config.activation_function);
  fields.read("activation_function", activation);
  try {
    config.activation_function = activation_from_name(activation);
    config.check();
  } catch (const Error& error) {
    const std::string what = error.what();
    const std::string bare = what.starts_with("config: ") ? what.substr(8) : what;
    throw Error(error.fault(), file + ": " + bare, error.details(), error.next());
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
  Json json = {{"_from_model_config", true}};
  if (config.bos_token_id) json["bos_token_id"] = *config.bos_token_id;
  if (config.eos_token_id) json["eos_token_id"] = *config.eos_token_id;
  if (config.pad_token_id) json["pad_token_id"] = *config.pad_token_id;
  json["use_cache"] = true;
  return json_text(json, 2) + "\n";
}

}  // namespace quire

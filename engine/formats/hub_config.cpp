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

// Calls visit(name, field, second name) for what a config.json says of a model in numbers: transformers
// knows some fields under a second name.
template <class Config, class Visit>
void each_field(Config& c, const Visit& visit) {
  visit("vocab_size", c.vocab_size, "");
  visit("n_positions", c.n_positions, "max_position_embeddings");
  visit("n_embd", c.n_embd, "hidden_size");
  visit("n_layer", c.n_layer, "num_hidden_layers");
  visit("n_head", c.n_head, "num_attention_heads");
  visit("n_inner", c.n_inner, "");
  visit("resid_pdrop", c.resid_pdrop, "");
  visit("embd_pdrop", c.embd_pdrop, "");
  visit("attn_pdrop", c.attn_pdrop, "");
  visit("layer_norm_epsilon", c.layer_norm_epsilon, "");
  visit("initializer_range", c.initializer_range, "");
  visit("scale_attn_weights", c.scale_attn_weights, "");
  visit("scale_attn_by_inverse_layer_idx", c.scale_attn_by_inverse_layer_idx, "");
  visit("reorder_and_upcast_attn", c.reorder_and_upcast_attn, "");
  visit("tie_word_embeddings", c.tie_word_embeddings, "");
}

template <class Config, class Visit>
void each_id(Config& c, const Visit& visit) {
  visit("bos_token_id", c.bos_token_id);
  visit("eos_token_id", c.eos_token_id);
  visit("pad_token_id", c.pad_token_id);
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
  each_field(config, [&](const char* name, auto& into, const char* second) {
    fields.read(fields[name].is_null() && *second != '\0' ? second : name, into);
  });
  // A token's id: null means none. Of a list the first counts. A small vocabulary whose config does not
  // name one has none: GPT-2's own, the default, is outside of it.
  each_id(config, [&](const char* name, std::optional<int>& into) {
    if (!json.contains(name)) {
      if (into >= config.vocab_size) into.reset();
      return;
    }
    const Json& ids = json[name];
    const Json& id = ids.is_array() && !ids.empty() ? ids.front() : ids;
    into.reset();
    if (id.is_null() || read_json(id, into.emplace())) return;
    throw refusal(name, id, wanted_json<int>(id), "");
  });
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
  nlohmann::json json = {{"activation_function", name_of(config.activation_function)},
                         {"add_cross_attention", false},
                         {"architectures", {"GPT2LMHeadModel"}},
                         {"dtype", name_of(dtype)},
                         {"model_type", "gpt2"},
                         {"summary_activation", nullptr},
                         {"summary_first_dropout", 0.1},
                         {"summary_proj_to_labels", true},
                         {"summary_type", "cls_index"},
                         {"summary_use_proj", true},
                         {"use_cache", true}};
  each_field(config, [&]<class T>(const char* name, const T& value, const char* /*second*/) {
    if constexpr (std::is_same_v<T, float>) {
      json[name] = std::stod(fmt::format("{}", value));  // 0.1f as 0.1, not as 0.10000000149011612
    } else {
      json[name] = value;
    }
  });
  if (config.n_inner <= 0) json["n_inner"] = nullptr;
  each_id(config, [&](const char* name, const std::optional<int>& id) {
    json[name] = id ? nlohmann::json(*id) : nlohmann::json();
  });
  return json_text(json, 2) + "\n";
}

std::string generation_config_to_json(const Gpt2Config& config) {
  nlohmann::json json = {{"_from_model_config", true}, {"use_cache", true}};
  each_id(config, [&](const char* name, const std::optional<int>& id) {
    if (id) json[name] = *id;
  });
  return json_text(json, 2) + "\n";
}

}  // namespace quire

#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/json.h"
#include "engine/formats/hub_folder.h"
#include "tests/support/catch.h"
#include "tests/support/fixtures.h"
#include "tests/support/scratch.h"

using quire::DType;
using quire::Fault;
using quire::Gpt2Config;
using quire::test::ScratchFolder;

namespace {

Gpt2Config parse(const std::string& json) {
  const ScratchFolder folder;
  return quire::read_config(folder.write("config.json", json));
}

std::string complaint(const std::string& json) {
  const ScratchFolder folder;
  const auto path = folder.write("config.json", json);
  return folder.message_of(Fault::bad_data, [&] { quire::read_config(path); });
}

}  // namespace

TEST_CASE("fields that are absent or null have transformers' defaults") {
  for (const std::string json :
       {"{}", R"({"model_type": "gpt2", "n_inner": null, "n_embd": null, "unknown": [1]})"}) {
    const Gpt2Config config = parse(json);
    CHECK(config.vocab_size == 50257);
    CHECK(config.n_embd == 768);
    CHECK(config.inner() == 3072);
    CHECK(config.resid_pdrop == 0.1f);
    CHECK(config.layer_norm_epsilon == 1e-5f);
    CHECK(config.tie_word_embeddings);
    CHECK(config.eos_token_id == 50256);
    CHECK_FALSE(config.pad_token_id.has_value());
  }
}

TEST_CASE("second names, null ids and lists of ids are read") {
  const Gpt2Config config = parse(
      R"({"hidden_size": 64, "max_position_embeddings": 32, "num_attention_heads": 2, "num_hidden_layers": 3,
          "vocab_size": 100, "bos_token_id": null, "eos_token_id": [7, 8], "pad_token_id": 9})");
  CHECK(config.n_embd == 64);
  CHECK(config.n_positions == 32);
  CHECK(config.n_head == 2);
  CHECK(config.n_layer == 3);
  CHECK_FALSE(config.bos_token_id.has_value());
  CHECK(config.eos_token_id == 7);
  CHECK(config.pad_token_id == 9);
  // GPT-2's own ids are no default for a vocabulary that does not have them.
  CHECK_FALSE(parse(R"({"vocab_size": 100})").eos_token_id.has_value());
}

TEST_CASE("fields that make no sense are named with their value") {
  CHECK(complaint(R"({"n_embd": "768"})") ==
        "error: DIR/config.json: n_embd is \"768\", not a whole number");
  CHECK(complaint(R"({"n_layer": 1.5})") ==
        "error: DIR/config.json: n_layer is 1.5, not a whole number");
  CHECK(complaint(R"({"n_layer": 99999999999})") ==
        "error: DIR/config.json: n_layer is 99999999999, not a whole number of 32 bits");
  CHECK(complaint(R"({"n_layer": 18446744073709551615})").find("not a whole number of 32 bits") !=
        std::string::npos);
  CHECK(complaint(R"({"resid_pdrop": true})") ==
        "error: DIR/config.json: resid_pdrop is true, not a number");
  CHECK(complaint(R"({"scale_attn_weights": 1})") ==
        "error: DIR/config.json: scale_attn_weights is 1, not true or false");
  CHECK(complaint(R"({"activation_function": 1})") ==
        "error: DIR/config.json: activation_function is 1, not a string");
  CHECK(complaint(R"({"activation_function": "mish"})")
            .find("error: DIR/config.json: activation_function is mish") == 0);
  CHECK(complaint(R"({"n_head": 7})").find("error: DIR/config.json: n_head is 7") == 0);
  CHECK(complaint(R"({"n_layer": -1})").find("error: DIR/config.json: n_layer is -1") == 0);
  CHECK(complaint(R"({"model_type": "llama"})") ==
        "error: DIR/config.json: model_type is \"llama\", Quire runs \"gpt2\"");
  CHECK(complaint(R"({"add_cross_attention": true})").find("add_cross_attention is true") !=
        std::string::npos);
  CHECK(complaint(R"({"quantization_config": {"bits": 4}})").find("the weights are quantized") !=
        std::string::npos);
  CHECK(complaint("[]").find("it holds a JSON array, not an object") != std::string::npos);
  CHECK(complaint("").find("error: DIR/config.json is not valid JSON") == 0);
}

TEST_CASE("a config comes back as it was written, with short numbers") {
  Gpt2Config config;
  config.n_inner = 100;
  config.activation_function = quire::Activation::relu;
  config.resid_pdrop = 0.25f;
  config.layer_norm_epsilon = 1e-3f;
  config.scale_attn_weights = false;
  config.scale_attn_by_inverse_layer_idx = true;
  config.reorder_and_upcast_attn = true;
  config.tie_word_embeddings = false;
  config.bos_token_id = std::nullopt;
  config.pad_token_id = 3;
  const std::string json = quire::config_to_json(config, DType::bf16);
  CHECK(json.find("\"initializer_range\": 0.02,") != std::string::npos);
  CHECK(json.find("\"dtype\": \"bfloat16\"") != std::string::npos);
  const Gpt2Config again = parse(json);
  CHECK(quire::config_to_json(again, DType::bf16) == json);
  CHECK(again.n_inner == 100);
  CHECK(again.activation_function == quire::Activation::relu);
  CHECK(again.resid_pdrop == 0.25f);
  CHECK(again.layer_norm_epsilon == 1e-3f);
  CHECK_FALSE(again.scale_attn_weights);
  CHECK(again.scale_attn_by_inverse_layer_idx);
  CHECK(again.reorder_and_upcast_attn);
  CHECK_FALSE(again.tie_word_embeddings);
  CHECK_FALSE(again.bos_token_id.has_value());
  CHECK(again.pad_token_id == 3);
}

TEST_CASE("what we write says the same as what transformers wrote") {
  QUIRE_FIXTURE(models, "models");
  for (const std::string name : {"tiny-char", "odd-inner", "odd-untied", "odd-inverse-layer"}) {
    INFO(name);
    auto theirs =
        quire::parse_json<nlohmann::json>(quire::read_file(models / name / "config.json"));
    theirs.erase("transformers_version");
    const Gpt2Config config = quire::read_config(models / name / "config.json");
    CHECK(quire::parse_json<nlohmann::json>(quire::config_to_json(config, DType::f32)) == theirs);
    auto generation = quire::parse_json<nlohmann::json>(
        quire::read_file(models / name / "generation_config.json"));
    const auto ours = quire::parse_json<nlohmann::json>(quire::generation_config_to_json(config));
    for (const auto& [key, value] : ours.items()) CHECK(generation[key] == value);
  }
}

#include "engine/model/config.h"

#include "base/error.h"
#include "tests/support/catch.h"

using quire::Activation;
using quire::Gpt2Config;

TEST_CASE("presets have GPT-2's sizes") {
  CHECK(Gpt2Config::preset("gpt2")->parameter_count() == 124'439'808);
  CHECK(Gpt2Config::preset("gpt2-medium")->parameter_count() == 354'823'168);
  CHECK(Gpt2Config::preset("gpt2-large")->parameter_count() == 774'030'080);
  CHECK(Gpt2Config::preset("gpt2-xl")->parameter_count() == 1'557'611'200);
  CHECK_FALSE(Gpt2Config::preset("gpt3").has_value());
  for (const char* name : {"tiny", "gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl"}) {
    CHECK_NOTHROW(Gpt2Config::preset(name)->check());
  }
}

TEST_CASE("attention scales as the config says") {
  Gpt2Config config;
  CHECK(config.attention_scale(0) == 0.125f);
  CHECK(config.attention_scale(11) == 0.125f);
  config.scale_attn_by_inverse_layer_idx = true;
  CHECK(config.attention_scale(0) == 0.125f);
  CHECK(config.attention_scale(3) == 0.03125f);
  config.scale_attn_weights = false;
  CHECK(config.attention_scale(3) == 0.25f);
}

TEST_CASE("activations have transformers' names") {
  CHECK(quire::activation_from_name("gelu_new") == Activation::gelu_new);
  CHECK(quire::activation_from_name("gelu_pytorch_tanh") == Activation::gelu_new);
  CHECK(quire::activation_from_name("swish") == Activation::silu);
  for (const char* name : {"gelu_new", "gelu", "relu", "silu", "tanh"}) {
    CHECK(quire::name_of(quire::activation_from_name(name)) == std::string(name));
  }
  CHECK_THROWS_AS(quire::activation_from_name("mish"), quire::Error);
}

TEST_CASE("a config that cannot be is refused, naming the field and its value") {
  struct Case {
    void (*damage)(Gpt2Config&);
    const char* named;
  };
  const Case cases[] = {
      {[](Gpt2Config& c) { c.n_head = 5; }, "n_head is 5"},
      {[](Gpt2Config& c) { c.n_head = 0; }, "n_head is 0"},
      {[](Gpt2Config& c) { c.n_layer = -1; }, "n_layer is -1"},
      {[](Gpt2Config& c) { c.n_embd = 0; }, "n_embd is 0"},
      {[](Gpt2Config& c) { c.vocab_size = 2'000'000'000; }, "vocab_size is 2000000000"},
      {[](Gpt2Config& c) { c.n_positions = 0; }, "n_positions is 0"},
      {[](Gpt2Config& c) { c.n_inner = -4; }, "n_inner is -4"},
      {[](Gpt2Config& c) { c.resid_pdrop = 1.0f; }, "resid_pdrop is 1"},
      {[](Gpt2Config& c) { c.attn_pdrop = -0.5f; }, "attn_pdrop is -0.5"},
      {[](Gpt2Config& c) { c.embd_pdrop = 0.0f / 0.0f; }, "embd_pdrop is"},
      {[](Gpt2Config& c) { c.layer_norm_epsilon = 0; }, "layer_norm_epsilon is 0"},
      {[](Gpt2Config& c) { c.activation_function = Activation::none; }, "activation_function"},
  };
  for (const Case& c : cases) {
    Gpt2Config config;
    c.damage(config);
    INFO(c.named);
    try {
      config.check();
      FAIL("no exception");
    } catch (const quire::Error& error) {
      CHECK(error.fault() == quire::Fault::bad_data);
      CHECK(std::string(error.what()).find(c.named) != std::string::npos);
    }
  }
}

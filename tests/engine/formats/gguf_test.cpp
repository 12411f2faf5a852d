#include "engine/formats/gguf.h"

#include "tests/engine/formats/tiny_char.h"

namespace quire::test {
namespace {

bool is_matrix_of_block(const std::string& name) {
  return name.starts_with("h.") && name.ends_with(".weight") &&
         name.find(".ln_") == std::string::npos;
}

}  // namespace

TEST_CASE("GGUF files hold the weights, the config and the tokens of a model") {
  QUIRE_FIXTURE(f32, "models/tiny-char-gguf/tiny-char-f32.gguf");
  QUIRE_FIXTURE(f16, "models/tiny-char-gguf/tiny-char-f16.gguf");
  const Gguf wide(f32);
  CHECK(read_all(wide) == tiny_char());
  const auto exact = tiny_char(), rounded = tiny_char(DType::f16);
  for (const auto& [name, values] : read_all(Gguf(f16))) {
    INFO(name);
    CHECK(values == (is_matrix_of_block(name) || name == "wte.weight" ? rounded : exact).at(name));
  }
  REQUIRE(wide.config());
  CHECK(wide.config()->n_layer == 3);
  CHECK(wide.config()->n_head == 4);
  CHECK(wide.config()->n_positions == 256);
  CHECK(wide.config()->layer_norm_epsilon == 1e-5f);
  CHECK(wide.config()->eos_token_id == 999);
  CHECK(wide.strings("tokenizer.ggml.tokens").size() == 1000);
  CHECK(wide.strings("tokenizer.ggml.merges").size() == 743);
  std::vector<std::int32_t> types(1000, 1);
  types[999] = 3;
  CHECK(wide.integers("tokenizer.ggml.token_type") == types);
  CHECK(wide.integers("tokenizer.ggml.tokens").empty());
}

TEST_CASE("Q8_0 is within half a step of what was stored") {
  QUIRE_FIXTURE(q8_0, "models/tiny-char-gguf/tiny-char-q8_0.gguf");
  const auto exact = tiny_char();
  for (const auto& [name, values] : read_all(Gguf(q8_0))) {
    INFO(name);
    const std::vector<float>& wanted = exact.at(name);
    if (!is_matrix_of_block(name) && name != "wte.weight") {
      CHECK(values == wanted);
      continue;
    }
    float largest = 0.0f;
    for (const float value : wanted) largest = std::max(largest, std::abs(value));
    // A step is a block's largest value / 127, in float16: its rounding moves up to 127 steps.
    const float bound = largest / 127.0f * (0.5f + 127.0f * 0x1p-11f);
    std::size_t differ = 0;
    for (std::size_t i = 0; i < wanted.size(); ++i) {
      REQUIRE(std::abs(values[i] - wanted[i]) <= bound);
      differ += values[i] != wanted[i] ? 1u : 0u;
    }
    CHECK(differ > 0);
  }
}

}  // namespace quire::test

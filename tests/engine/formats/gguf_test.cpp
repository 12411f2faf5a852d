#include "engine/formats/gguf.h"

#include "tests/engine/formats/checkpoints.h"
#include "tests/engine/formats/tiny_char.h"
#include "tests/support/scratch.h"

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

namespace {

std::string refusal(const std::string& bytes) {
  const ScratchFolder folder;
  const auto path = folder.write("x.gguf", bytes);
  std::string text = folder.message_of(Fault::bad_data, [&] { const Gguf file(path); });
  const std::string start = "error: DIR/x.gguf is not a usable GGUF file\n  ";
  return text.starts_with(start) ? text.substr(start.size()) : text;
}
bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}
const GgufTensor kTable = {"token_embd.weight", {4, 3}, 0, floats(std::vector<float>(12))};

}  // namespace

TEST_CASE("a GGUF of every type of metadata opens, and its tensors have transformers' names") {
  std::vector<std::string> metadata = gguf_metadata(4);
  for (std::uint32_t type = 0; type <= 12; ++type) {
    constexpr std::size_t kSizes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    const std::string value(kSizes[type], '\1');
    const std::string name = "x." + std::to_string(type);
    if (value.empty()) continue;
    metadata.push_back(g_entry(name, type, value));
    metadata.push_back(g_entry(name + ".array", 9,
                               little(type) + little(std::uint64_t{3}) + value + value + value));
  }
  metadata.push_back(g_entry(
      "texts", 9, little(std::uint32_t{8}) + little(std::uint64_t{2}) + g_text("a") + g_text("")));
  const ScratchFolder folder;
  std::vector<GgufTensor> tensors = {
      kTable, {"blk.0.ffn_up.weight", {4, 16}, 0, {}}, {"rope.x", {}, 30, "\x80\x3f"}};
  for (int i = 0; i < 64; ++i) tensors[1].bytes += little(static_cast<float>(i));
  const Gguf file(folder.write("x.gguf", gguf_file(metadata, tensors)));
  CHECK(file.metadata().at("x.0") == "1");
  CHECK(file.metadata().at("x.7") == "true");
  CHECK(file.metadata().at("x.10") == "72340172838076673");
  CHECK(file.metadata().at("x.12.array") == "[3 values]");
  CHECK(file.strings("texts") == std::vector<std::string_view>{"a", ""});
  CHECK(file.strings("none").empty());
  CHECK(file.config_origin() == "metadata");
  const FileTensor* up = file.find("h.0.mlp.c_fc.weight");
  REQUIRE(up != nullptr);
  CHECK(up->shape == std::vector<std::int64_t>{4, 16});
  CHECK(up->read_weight()[1] == 4.0f);
  CHECK(file.find("wte.weight")->shape == std::vector<std::int64_t>{3, 4});
  CHECK(file.find("rope.x")->read_weight() == std::vector<float>{1.0f});
}

TEST_CASE("GGUF files that are something else, or of what is not read, are refused") {
  const std::string good = gguf_file(gguf_metadata(4), {kTable});
  CHECK(has(refusal(""), "it does not begin with \"GGUF\""));
  CHECK(has(refusal("PK\3\4" + good), "it is a PyTorch checkpoint or a zip archive"));
  CHECK(has(refusal("GGUF" + little(std::uint32_t{1}) + good.substr(8)),
            "its version is 1; versions"));
  CHECK(has(refusal("GGUF" + little(std::uint32_t{0x03000000}) + good.substr(8)),
            "its version is 50331648"));
  const auto with = [](const std::string& entry, std::size_t replaced = 100) {
    std::vector<std::string> metadata = gguf_metadata(4);
    if (replaced < metadata.size()) metadata[replaced] = entry;
    if (replaced == 100) metadata.push_back(entry);
    return refusal(gguf_file(metadata, {kTable}));
  };
  CHECK(has(with(g_entry("general.architecture", 8, g_text("llama")), 0),
            "it is a model of the architecture 'llama', not a GPT-2"));
  CHECK(has(with(g_number("x", 1), 0), "its metadata has no general.architecture"));
  CHECK(has(with(g_number("x", 1), 5), "its metadata has no gpt2.attention.head_count"));
  CHECK(with(g_number("gpt2.attention.head_count", 3), 5) ==
        "error: config: n_head is 3\n  DIR/x.gguf: what its metadata says of the model\n"
        "  allowed: divisors of n_embd, which is 4");
  CHECK(has(with(g_entry("gpt2.block_count", 8, g_text("one")), 1), "gpt2.block_count is one"));
  CHECK(has(with(g_number("gpt2.block_count", 0xffffffff), 1), "gpt2.block_count is 4294967295"));
  CHECK(has(with(g_entry("x", 13, "")), "its metadata has a value of the unknown type 13"));
  CHECK(has(with(g_entry("x", 9, little(std::uint32_t{9}) + little(std::uint64_t{1}))),
            "x is an array of arrays"));
  CHECK(has(with(g_entry("x", 9, little(std::uint32_t{99}) + little(std::uint64_t{1}))),
            "an array of the unknown type 99"));
  CHECK(has(with(g_number("general.alignment", 0)), "its alignment is 0"));
  CHECK(has(with(g_number("general.alignment", 0x7fffffff)), "its alignment is 2147483647"));
}

TEST_CASE("counts and lengths of a GGUF that no file has are refused before anything is made") {
  for (const std::uint64_t huge : {std::uint64_t{1} << 60, UINT64_MAX, std::uint64_t{1} << 33}) {
    const std::string count = little(huge);
    const std::string start = "GGUF" + little(std::uint32_t{3});
    CHECK(has(refusal(start + count + little(std::uint64_t{0})),
              "it claims " + std::to_string(huge) + " tensors"));
    CHECK(has(refusal(start + little(std::uint64_t{0}) + count), "it ends at byte"));
    const std::string one = start + little(std::uint64_t{0}) + little(std::uint64_t{1});
    CHECK(has(refusal(one + count), "it ends at byte"));                            // a name
    CHECK(has(refusal(one + g_text("x") + little(8) + count), "it ends at byte"));  // a string
    for (const int of : {0, 6, 8, 12}) {                                            // an array
      CHECK(has(refusal(one + g_text("x") + little(9) + little(of) + count), "it ends at byte"));
    }
  }
}

TEST_CASE("tensors of a GGUF that do not fit its data are refused by name") {
  const auto with = [](const GgufTensor& tensor) {
    return refusal(gguf_file(gguf_metadata(4), {kTable, tensor}));
  };
  const std::string four(16, '\0');
  CHECK(has(with({"t", {4, 4}, 0, four}), "tensor 't' lies outside: bytes 64 to 128 of 96"));
  CHECK(has(with({"t", {4}, 0, four, 1 << 30}), "tensor 't' lies outside"));
  CHECK(has(with({"t", {4}, 0, four, -65}), "tensor 't' lies outside"));  // 2^64 - 1
  CHECK(
      has(with({"t", {std::uint64_t{1} << 62, 4}, 0, four}), "tensor 't' of F32 has the extents"));
  CHECK(has(with({"t", {std::uint64_t{1} << 63}, 0, four}), "tensor 't' has an impossible extent"));
  CHECK(has(with({"t", {0, std::uint64_t{1} << 62, 4}, 0, four}),
            "tensor 't' of F32 has the extents"));
  CHECK(has(with({"t", {1, 1, 1, 1, 4}, 0, four}), "tensor 't' has 5 extents"));
  CHECK(has(with({"t", {4}, 3, four}),
            "tensor 't' is of ggml's type 3; read are F32, F16, BF16, Q8_0, Q4_0 and Q4_K"));
  CHECK(has(with({"t", {16, 2}, 2, four}), "tensor 't' of Q4_0 has the extents [16, 2]"));
  CHECK(has(with(kTable), "tensor 'wte.weight' is there twice"));
  CHECK(has(with({"a\xff", {4}, 0, four}), "has a name that is not UTF-8"));
  CHECK(has(refusal(gguf_file(gguf_metadata(4), {})), "it has no token_embd.weight"));
}

}  // namespace quire::test

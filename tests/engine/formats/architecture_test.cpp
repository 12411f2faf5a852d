#include "engine/formats/architecture.h"

#include <fmt/format.h>

#include <tuple>

#include "engine/formats/hub_folder.h"
#include "engine/formats/weight_files.h"
#include "kernels/reference/reference_device.h"
#include "tests/engine/formats/checkpoints.h"
#include "tests/support/catch.h"
#include "tests/support/scratch.h"

namespace quire::test {
namespace {

namespace fs = std::filesystem;
using Shapes = std::vector<std::pair<std::string, std::vector<std::int64_t>>>;

/// Names and shapes of a GPT-2's tensors.
Shapes gpt2(std::int64_t L, std::int64_t C, std::int64_t V, std::int64_t P, std::int64_t I) {
  Shapes shapes = {
      {"wte.weight", {V, C}}, {"wpe.weight", {P, C}}, {"ln_f.weight", {C}}, {"ln_f.bias", {C}}};
  for (std::int64_t l = 0; l < L; ++l) {
    const std::string h = fmt::format("h.{}.", l);
    shapes.insert(shapes.end(), {{h + "ln_1.weight", {C}},
                                 {h + "ln_1.bias", {C}},
                                 {h + "attn.c_attn.weight", {C, 3 * C}},
                                 {h + "attn.c_attn.bias", {3 * C}},
                                 {h + "attn.c_proj.weight", {C, C}},
                                 {h + "attn.c_proj.bias", {C}},
                                 {h + "ln_2.weight", {C}},
                                 {h + "ln_2.bias", {C}},
                                 {h + "mlp.c_fc.weight", {C, I}},
                                 {h + "mlp.c_fc.bias", {I}},
                                 {h + "mlp.c_proj.weight", {I, C}},
                                 {h + "mlp.c_proj.bias", {C}}});
  }
  return shapes;
}

/// A .safetensors of them in float16, all zeros, of which the disk holds the header alone.
fs::path sparse_file(const fs::path& path, const Shapes& shapes) {
  std::string header = "{";
  std::int64_t end = 0;
  for (const auto& [name, shape] : shapes) {
    std::int64_t size = 2;
    for (const std::int64_t extent : shape) size *= extent;
    header += fmt::format(R"({}"{}":{{"dtype":"F16","shape":{},"data_offsets":[{},{}]}})",
                          end == 0 ? "" : ",", name, to_string(shape), end, end + size);
    end += size;
  }
  header += "}";
  header.resize((header.size() + 7) / 8 * 8, ' ');
  std::ofstream(path, std::ios::binary)
      << little(static_cast<std::uint64_t>(header.size())) << header;
  fs::resize_file(path, 8 + header.size() + static_cast<std::uintmax_t>(end));
  return path;
}

}  // namespace

TEST_CASE("the four sizes of GPT-2 are known by their shapes alone") {
  for (const auto& [L, C, heads] : {std::tuple(12, 768, 12), std::tuple(24, 1024, 16),
                                    std::tuple(36, 1280, 20), std::tuple(48, 1600, 25)}) {
    const ScratchFolder folder;
    const WeightFiles files(
        sparse_file(folder / "any.safetensors", gpt2(L, C, 50257, 1024, 4 * C)));
    CHECK(files.config_origin() == "shapes");
    const Gpt2Config config = files.config();
    CHECK(config.n_layer == L);
    CHECK(config.n_embd == C);
    CHECK(config.n_head == heads);
    CHECK(config.n_inner == 0);
    CHECK(config.vocab_size == 50257);
    CHECK(config.n_positions == 1024);
    CHECK(config.eos_token_id == 50256);
  }
  const ScratchFolder folder;
  const WeightFiles odd(sparse_file(folder / "any.safetensors", gpt2(12, 768, 40, 16, 100)));
  CHECK(odd.config().n_head == 12);
  CHECK(odd.config().n_inner == 100);
  CHECK(odd.config().vocab_size == 40);
  CHECK(odd.config().n_positions == 16);
  CHECK_FALSE(odd.config().eos_token_id);
}

TEST_CASE("a model that is known by its shapes loads with a note, and a config.json has its say") {
  const ScratchFolder folder;
  ReferenceDevice device;
  const fs::path file = sparse_file(folder / "model.safetensors", gpt2(12, 768, 50, 16, 100));
  const LoadedModel model = load_model(device, folder.path(), WeightStorage::as_stored);
  CHECK(model.notes ==
        std::vector<std::string>{"there is no config.json: by the shapes of its weights this is a "
                                 "GPT-2 of 12 blocks of 768 channels, with 12 heads"});
  folder.write("config.json", R"({"n_head": 24, "vocab_size": 50, "n_positions": 16})");
  CHECK(WeightFiles(file).config_origin() == "config.json");
  CHECK(WeightFiles(file).config().n_head == 24);
}

TEST_CASE("a config.json that is not there is asked for with what the shapes say") {
  const ScratchFolder folder;
  const auto message = [&](const Shapes& shapes) {
    const fs::path file = sparse_file(folder / "x.safetensors", shapes);
    return folder.message_of(Fault::bad_data, [&] { WeightFiles files(file); });
  };
  CHECK(message(gpt2(2, 12, 40, 16, 20)) ==
        "error: DIR/x.safetensors has no config.json beside it\n"
        "  its 28 tensors are of 2 blocks of 12 channels, and do not say how many heads these "
        "have; known are the sizes of GPT-2: 12 blocks of 768, 24 of 1024, 36 of 1280, 48 of 1600\n"
        "  try: a config.json beside it: {\"model_type\": \"gpt2\", \"vocab_size\": 40, "
        "\"n_positions\": 16, \"n_embd\": 12, \"n_layer\": 2, \"n_head\": HEADS}");
  CHECK(message({{"other", {2}}}).find("its 1 tensors are of 0 blocks of 0 channels") !=
        std::string::npos);
}

TEST_CASE("weights of another architecture are told by their names") {
  for (const auto& [name, architecture] :
       {std::pair("bert.encoder.layer.0.attention.self.query.weight", "BERT"),
        std::pair("model.layers.0.self_attn.q_proj.weight", "Llama"),
        std::pair("gpt_neox.layers.0.attention.query_key_value.weight", "GPT-NeoX"),
        std::pair("transformer.h.0.attn.attention.q_proj.weight", "GPT-Neo"),
        std::pair("transformer.h.0.attn.q_proj.weight", "GPT-J"),
        std::pair("model.decoder.embed_positions.weight", "OPT"),
        std::pair("shared.weight", "T5")}) {
    INFO(name);
    const ScratchFolder folder;
    const fs::path file = sparse_file(folder / "x.safetensors", {{name, {2}}});
    const auto message = [&] {
      return folder.message_of(Fault::bad_data, [&] { WeightFiles files(file); });
    };
    const std::string expected = fmt::format(
        "error: DIR/x.safetensors holds a {}, not a GPT-2\n  '{}' is one of its 1 "
        "tensors; a GPT-2 has 'wte.weight', 'h.0.attn.c_attn.weight', …\n  try: a model "
        "whose config.json has \"model_type\": \"gpt2\"",
        architecture, name);
    CHECK(message() == expected);
    folder.write("config.json", "{}");  // which says gpt2
    CHECK(message() == expected);
  }
}

TEST_CASE("what a file says of its model is held against its weights by the name of what says so") {
  const ScratchFolder folder;
  ReferenceDevice device;
  const auto file = folder.write(
      "x.gguf", gguf_file(gguf_metadata(4),
                          {{"token_embd.weight", {4, 3}, 0, floats(std::vector<float>(12))}}));
  CHECK(folder.message_of(Fault::bad_data, [&] { load_model(device, file, WeightStorage::f32); }) ==
        "error: DIR/x.gguf does not fit its metadata\n"
        "  n_layer is 1 in metadata, but the weights have 0 blocks");
}

}  // namespace quire::test

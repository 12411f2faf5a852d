// What headers tell of files of weights, and that nothing else is read.
#include "pipeline/model_info.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/json.h"
#include "engine/formats/hub_folder.h"
#include "engine/formats/safetensors.h"
#include "engine/model/parameters.h"
#include "kernels/open_device.h"
#include "tests/pipeline/weights_of_all_forms.h"
#include "tests/support/catch.h"
#include "tests/support/text.h"

using namespace quire;
using namespace quire::test;
namespace fs = std::filesystem;

namespace {

std::int64_t count_of(const ModelInfo& info, TensorKind kind) {
  return std::count(info.kinds.begin(), info.kinds.end(), kind);
}

/// The header of a safetensors file of float32 tensors, and a hole in the place of their values.
fs::path sparse_model(const ScratchFolder& folder, const Gpt2Config& config) {
  nlohmann::json header;
  std::int64_t end = 0;
  for (const NamedParameter& parameter : parameter_list(config)) {
    const std::int64_t begin = end;
    end += parameter.shape.count() * 4;
    header[parameter.name] = {
        {"dtype", "F32"}, {"shape", extents_of(parameter.shape)}, {"data_offsets", {begin, end}}};
  }
  const std::string text = json_text(header);
  const std::uint64_t size = text.size();
  folder.write("config.json", config_to_json(config, DType::f32));
  const fs::path file = folder.write(
      "model.safetensors", std::string(reinterpret_cast<const char*>(&size), sizeof size) + text);
  fs::resize_file(file, sizeof size + text.size() + static_cast<std::uint64_t>(end));
  return file;
}

/// Of the file's pages from that byte on, those that are in memory.
std::int64_t pages_in_memory(const fs::path& path, std::size_t first) {
  const MappedFile file(path);
  const std::size_t page = ::sysconf(_SC_PAGESIZE);
  first -= first % page;
  const std::size_t size = file.bytes().size() - first;
  std::vector<unsigned char> in_memory((size + page - 1) / page);
  void* const from = const_cast<std::byte*>(file.bytes().data()) + first;
  REQUIRE(::mincore(from, size, in_memory.data()) == 0);
  return std::count_if(in_memory.begin(), in_memory.end(), [](unsigned char p) { return p & 1; });
}

/// A folder of tiny-char's config and tensors, some of which `change` makes others, and more.
template <class Change>
void write_changed(const ScratchFolder& folder, const Change& change,
                   std::vector<TensorToWrite> tensors = {}) {
  const Safetensors original(fixtures_root() / "models/tiny-char/model.safetensors");
  for (const FileTensor& tensor : original.tensors()) {
    TensorToWrite written{tensor.name, tensor.view()};
    if (change(written)) tensors.push_back(written);
  }
  write_safetensors(folder / "model.safetensors", tensors);
  folder.write("config.json", read_file(fixtures_root() / "models/tiny-char/config.json"));
}

}  // namespace

TEST_CASE("a model's headers tell the same of it in every form") {
  QUIRE_FIXTURE(models, "models/tiny-char");
  for (const Form& form : kForms) {
    INFO(form.path);
    const ModelInfo info = model_info(path_of(form));
    CHECK(info.format == form.format);
    CHECK(info.foreign.empty());
    CHECK(info.trouble.empty());
    REQUIRE(info.config);
    CHECK(info.config->parameter_count() == 755'840);
    CHECK(info.parameters == 755'840);
    CHECK(count_of(info, TensorKind::parameter) == 40);
    CHECK(info.config->n_layer == 3);
    CHECK(info.config->n_head == 4);
    CHECK(info.config->n_embd == 128);
    CHECK(info.config->vocab_size == 1000);
    CHECK(info.config->n_positions == 256);
    CHECK(info.config->tie_word_embeddings);
    CHECK(type_counts(info.source).count(form.type) == 1);
    const std::string name = form.path;
    CHECK(count_of(info, TensorKind::tied_head) ==
          (contains(name, "bin-zip") || contains(name, "lm-head") ? 1 : 0));
    CHECK(count_of(info, TensorKind::old_mask) ==
          (contains(name, "buffers") || contains(name, "legacy") ? 6
           : contains(name, "hub-layout")                        ? 3
                                                                 : 0));
    CHECK(count_of(info, TensorKind::other) == 0);
    CHECK(info.files.size() == (contains(name, "sharded") ? 4 : 1));
    std::uintmax_t bytes = 0;
    for (const fs::path& file : info.files) bytes += fs::file_size(file);
    CHECK(info.file_bytes == bytes);
  }
  const auto types = type_counts(model_info(path_of(kForms[9])).source);
  CHECK(types.at("Q8_0").tensors == 13);
  CHECK(types.at("Q8_0").elements == 717'824);
  CHECK(types.at("Q8_0").bytes == 717'824 / 32 * 34);
  CHECK(types.at("F32").elements == 755'840 - 717'824);
}

TEST_CASE("a head of its own counts") {
  QUIRE_FIXTURE(untied, "models/odd-untied");
  const ModelInfo info = model_info(untied);
  CHECK_FALSE(info.config->tie_word_embeddings);
  CHECK(info.parameters == info.config->parameter_count());
  CHECK(count_of(info, TensorKind::parameter) == 29);
}

TEST_CASE("the sizes of OpenAI's models are known, and no weight is read for it") {
  const std::pair<const char*, const char*> sizes[] = {{"gpt2", "GPT-2 124M"},
                                                       {"gpt2-medium", "GPT-2 355M"},
                                                       {"gpt2-large", "GPT-2 774M"},
                                                       {"gpt2-xl", "GPT-2 1558M"}};
  for (const auto& [preset, name] : sizes) {
    const ScratchFolder folder;
    const fs::path file = sparse_model(folder, *Gpt2Config::preset(preset));
    const ModelInfo info = model_info(folder.path());
    CHECK(openai_size(*info.config) == name);
    CHECK(info.parameters == Gpt2Config::preset(preset)->parameter_count());
    // No kernel reads 64 MB ahead of what is asked for.
    constexpr std::size_t kAhead = 64 << 20;
    CHECK(pages_in_memory(file, kAhead) == 0);
    info.source.tensors().back().check_weight();
    CHECK(pages_in_memory(file, kAhead) > 0);  // of what is read it tells
  }
  Gpt2Config other;
  other.vocab_size = 50'300;
  CHECK(openai_size(other).empty());
}

TEST_CASE("what is no GPT-2 is listed, with the reason") {
  const ScratchFolder folder;
  const std::vector<float> values(6, 1.0f);
  const TensorToWrite tensor{"bert.encoder.layer.0.weight",
                             ConstView(values.data(), DType::f32, {2, 3})};
  write_safetensors(folder / "model.safetensors", {&tensor, 1});
  const auto foreign = [&] {
    const ModelInfo info = model_info(folder.path());
    CHECK_FALSE(info.config);
    CHECK(info.parameters == 6);
    CHECK(count_of(info, TensorKind::other) == 1);
    return info.foreign;
  };
  CHECK_FALSE(foreign().empty());  // no config, and no names to take one from
  folder.write("config.json", R"({"model_type": "bert"})");
  CHECK(contains(foreign(), "config.json: model_type is \"bert\", Quire runs \"gpt2\""));
  folder.write("config.json", R"({"model_type": "gpt2", "quantization_config": {}})");
  CHECK(contains(foreign(), "the weights are quantized"));
  folder.write("config.json", R"({"model_type": "gpt2", "add_cross_attention": true})");
  CHECK(contains(foreign(), "add_cross_attention is true"));
  folder.write("config.json", R"({"model_type": "gpt2"})");
  CHECK(foreign() == "none of its tensors is one of a GPT-2's");
  // A GPT-2 whose config is broken is no other kind of model.
  folder.write("config.json", R"({"n_head": 7})");
  CHECK(contains(folder.message_of(Fault::bad_data, foreign), "n_head is 7"));
  folder.write("config.json", "{");
  CHECK(contains(folder.message_of(Fault::bad_data, foreign), "DIR/config.json"));
}

TEST_CASE("a GPT-2 that cannot be loaded says why") {
  QUIRE_FIXTURE(tiny_char, "models/tiny-char");
  const auto trouble = [](const ScratchFolder& folder) {
    const ModelInfo info = model_info(folder.path());
    CHECK(info.foreign.empty());
    return info.trouble;
  };
  using Lines = std::vector<std::string>;
  {
    const ScratchFolder folder;
    write_changed(folder, [](const TensorToWrite& t) { return !contains(t.name, ".h.1.ln_1."); });
    CHECK(trouble(folder) == Lines{"2 of 40 tensors are missing: transformer.h.1.ln_1.weight, "
                                   "transformer.h.1.ln_1.bias"});
  }
  {
    const ScratchFolder folder;
    write_changed(folder, [](TensorToWrite& t) {
      if (t.name == "transformer.wpe.weight")
        t.view = ConstView(t.view.bytes(), DType::f32, {2, 3});
      if (t.name == "transformer.ln_f.bias") t.view = ConstView(t.view.bytes(), DType::i32, {128});
      return true;
    });
    CHECK(trouble(folder) == Lines{"tensor 'transformer.wpe.weight' has the shape [2, 3], the "
                                   "config wants [256, 128]",
                                   "tensor 'transformer.ln_f.bias' is of type I32"});
  }
  {
    const ScratchFolder folder;
    const std::vector<float> head(2 * 128);
    write_changed(folder, [](const TensorToWrite&) { return true; },
                  {{"lm_head.weight", ConstView(head.data(), DType::f32, {2, 128})}});
    CHECK(trouble(folder) ==
          Lines{"tensor 'lm_head.weight' has the shape [2, 128], the config wants "
                "[1000, 128]"});
  }
  const ScratchFolder folder;
  write_changed(folder, [](const TensorToWrite&) { return true; });
  std::string config = read_file(folder / "config.json");
  config.replace(config.find("\"n_layer\": 3"), 12, "\"n_layer\": 2");
  folder.write("config.json", config);
  REQUIRE(trouble(folder).size() == 1);
  CHECK(contains(trouble(folder)[0],
                 "it has blocks beyond n_layer, which is 2: tensor "
                 "'transformer.h.2.attn.c_attn.bias'"));
}

TEST_CASE("the tokenizer beside the weights is told by its files") {
  QUIRE_FIXTURE(tiny_char, "models/tiny-char");
  QUIRE_FIXTURE(vocabulary, "gpt2-vocab");
  const auto of = [](const fs::path& path) { return *model_info(path).tokenizer; };
  using Special = std::map<std::int64_t, std::string>;
  CHECK(of(tiny_char).file == "tokenizer.json");
  CHECK(of(tiny_char).size == 1000);
  CHECK(of(tiny_char).special == Special{{999, "<|endoftext|>"}});
  CHECK(of(path_of(kForms[7])).size == 1000);
  CHECK(of(path_of(kForms[7])).special == Special{{999, ""}});
  CHECK(of(path_of(kForms[10])).file == "tokenizer.bin");
  CHECK(of(path_of(kForms[10])).size == 1000);
  CHECK(of(path_of(kForms[10])).special == Special{{999, ""}});
  CHECK_FALSE(model_info(path_of(kForms[3])).tokenizer);

  const ScratchFolder folder;
  fs::copy(tiny_char / "model.safetensors", folder / "model.safetensors");
  fs::copy(tiny_char / "config.json", folder / "config.json");
  fs::copy(vocabulary / "vocab.json", folder / "vocab.json");
  CHECK(of(folder.path()).file == "vocab.json");
  CHECK(of(folder.path()).size == 50'257);
  CHECK(of(folder.path()).special == Special{{50'256, "<|endoftext|>"}});
  fs::copy(vocabulary / "tokenizer.json", folder / "tokenizer.json");
  CHECK(of(folder.path()).file == "tokenizer.json");
  CHECK(of(folder.path()).size == 50'257);
  // Marks within strings, and names that lie elsewhere, are no vocabulary.
  folder.write("tokenizer.json",
               R"({"vocab": {"a": 1}, "added_tokens": [{"id": 9, "content": "<\"]}>", "special":
                  true}, {"id": 7, "content": "x", "special": false}], "model": {"merges": ["{ }"],
                  "vocab": {"\"": 0, "}": 1, ":,": 2, "\\": 3}}})");
  CHECK(of(folder.path()).size == 10);
  CHECK(of(folder.path()).special == Special{{9, "<\"]}>"}});
  for (const char* broken :
       {"", "{", "[]", "{\"model\": {\"vocab\": \"", "{\"model\": 3}",
        R"({"added_tokens": [{"id": 9223372036854775807}, {"id": -5}, {"id": "x"}, 3]})"}) {
    folder.write("tokenizer.json", broken);
    CHECK(of(folder.path()).size == 0);
  }
}

#include "engine/formats/torch_checkpoint.h"

#include <tuple>

#include "tests/engine/formats/checkpoints.h"
#include "tests/engine/formats/tiny_char.h"
#include "tests/support/scratch.h"

namespace quire::test {
namespace {

/// How the reader refuses a file of these bytes.
std::string refusal(const std::string& bytes) {
  const ScratchFolder folder;
  const auto path = folder.write("x.bin", bytes);
  std::string text = folder.message_of(Fault::bad_data, [&] { const TorchCheckpoint file(path); });
  const std::string start = "error: DIR/x.bin is not a usable PyTorch checkpoint\n  ";
  return text.starts_with(start) ? text.substr(start.size()) : text;
}
bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}
/// A tensor of the storage "0", of six numbers from 0 on.
const std::string kSix = floats({0, 1, 2, 3, 4, 5});
std::string six(const std::vector<std::int64_t>& shape, const std::vector<std::int64_t>& strides,
                std::int64_t offset = 0) {
  return p_tensor({.shape = shape, .strides = strides, .offset = offset, .count = 6});
}
std::string file_of(const std::string& tensor) {
  return torch_zip(p_dict({{"a", tensor}}), {{"0", kSix}});
}
std::vector<float> values_of(const std::string& bytes) {
  const ScratchFolder folder;
  return TorchCheckpoint(folder.write("x.bin", bytes)).find("a")->read_weight();
}

/// nanoGPT's ckpt.pt of one block of 2 channels.
std::string nano_gpt(bool bias, const std::string& prefix) {
  std::vector<std::pair<std::string, std::string>> model;
  Storages storages;
  const auto add = [&](const std::string& name, const std::vector<std::int64_t>& shape) {
    std::int64_t count = 1;
    for (const std::int64_t extent : shape) count *= extent;
    std::vector<float> values(static_cast<std::size_t>(count));
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i);
    const std::string key = std::to_string(storages.size());
    std::vector<std::int64_t> strides = {1};
    if (shape.size() == 2) strides = {shape[1], 1};
    model.emplace_back(prefix + name, p_tensor({shape, strides, 0, count, key}));
    storages.emplace_back(key, floats(values));
  };
  add("transformer.wte.weight", {3, 2});
  add("transformer.wpe.weight", {4, 2});
  for (const auto& [module, out, in] :
       {std::tuple("h.0.ln_1", 2, 0), std::tuple("h.0.attn.c_attn", 6, 2),
        std::tuple("h.0.attn.c_proj", 2, 2), std::tuple("h.0.ln_2", 2, 0),
        std::tuple("h.0.mlp.c_fc", 8, 2), std::tuple("h.0.mlp.c_proj", 2, 8),
        std::tuple("ln_f", 2, 0)}) {
    const std::string name = std::string("transformer.") + module;
    add(name + ".weight",
        in == 0 ? std::vector<std::int64_t>{out} : std::vector<std::int64_t>{out, in});
    if (bias) add(name + ".bias", {out});
  }
  model.emplace_back(prefix + "lm_head.weight", model[0].second);
  // What an optimizer remembers is not the model.
  const std::string state = p_dict({{"exp_avg", model[1].second}});
  return torch_zip(p_dict({{"model", p_dict(model)},
                           {"optimizer", p_dict({{"state", p_dict({{"0", state}})}})},
                           {"model_args", p_dict({{"n_layer", p_integer(1)},
                                                  {"n_head", p_integer(2)},
                                                  {"n_embd", p_integer(2)},
                                                  {"block_size", p_integer(4)},
                                                  {"bias", p_boolean(bias)},
                                                  {"vocab_size", p_integer(3)}})},
                           {"iter_num", p_integer(7)}}),
                   storages);
}

}  // namespace

TEST_CASE("checkpoints of PyTorch hold the weights that were saved, in both forms") {
  QUIRE_FIXTURE(zip, "models/tiny-char-formats/bin-zip/pytorch_model.bin");
  QUIRE_FIXTURE(legacy, "models/tiny-char-formats/bin-legacy/pytorch_model.bin");
  const TorchCheckpoint archive(zip);
  CHECK(read_all(archive) == tiny_char());
  CHECK(archive.find("lm_head.weight")->bytes.data() ==
        archive.find("transformer.wte.weight")->bytes.data());
  const TorchCheckpoint row(legacy);
  CHECK(read_all(row) == tiny_char(DType::f16));
  CHECK(row.find("h.0.attn.bias")->dtype_name() == "U8");
}

TEST_CASE("a checkpoint's tensors are parts of their storages, matrices also transposed") {
  using Values = std::vector<float>;
  CHECK(values_of(file_of(six({2, 3}, {3, 1}))) == Values{0, 1, 2, 3, 4, 5});
  CHECK(values_of(file_of(six({2, 2}, {2, 1}, 2))) == Values{2, 3, 4, 5});
  CHECK(values_of(file_of(six({3, 2}, {1, 3}))) == Values{0, 3, 1, 4, 2, 5});  // .t()
  CHECK(values_of(file_of(six({1, 6}, {9, 1}))) == Values{0, 1, 2, 3, 4, 5});
  CHECK(values_of(file_of(six({0, 6}, {1, 1}))).empty());
  CHECK(values_of(file_of(p_call(p_global("torch._utils", "_rebuild_parameter"),
                                 {six({6}, {1}), p_boolean(true), p_dict({})}))) ==
        Values{0, 1, 2, 3, 4, 5});
  CHECK(refusal(file_of(six({2}, {3}))) ==
        "tensor 'a' of shape [2] is stored with the strides [3]\n"
        "  try: save it with .contiguous()");
  CHECK(has(refusal(file_of(six({2, 2}, {3, 1}))), "with the strides [3, 1]"));
  CHECK(has(refusal(file_of(six({3, 2}, {0, 0}))), "with the strides [0, 0]"));
  CHECK(has(refusal(file_of(six({2, 3}, {1}))), "with the strides [1]"));
  CHECK(refusal(file_of(six({2, 3}, {3, 1}, 1))) ==
        "tensor 'a' of shape [2, 3] lies outside its storage of 24 bytes\n"
        "  try: download or copy the file again");
  const std::int64_t huge = std::int64_t{1} << 60;
  for (const auto& shape : {std::vector<std::int64_t>{huge}, {huge, huge}, {0, huge, huge}}) {
    CHECK(has(refusal(file_of(six(shape, std::vector<std::int64_t>(shape.size(), 1)))),
              "lies outside its storage"));
  }
  CHECK(has(refusal(file_of(six({-1}, {1}))), "a size or a place is no number"));
  CHECK(has(refusal(file_of(six({6}, {1}, huge))), "lies outside its storage"));
  CHECK(has(refusal(file_of(six(std::vector<std::int64_t>(9, 1), {1}))), "a tensor has 9 extents"));
}

TEST_CASE("what wraps a state dict is looked through") {
  const ScratchFolder folder;
  for (const std::string name : {"a", "_orig_mod.a", "module.a", "module._orig_mod.a"}) {
    for (const std::string wrapper : {"", "model", "state_dict", "model_state_dict"}) {
      INFO(name << " in " << wrapper);
      const std::string weights = p_dict({{name, six({6}, {1})}, {"epoch", p_integer(3)}});
      const std::string object =
          wrapper.empty() ? weights : p_dict({{"args", p_dict({})}, {wrapper, weights}});
      for (const std::string& file :
           {torch_zip(object, {{"0", kSix}}), torch_row(object, {{"0", kSix}})}) {
        const TorchCheckpoint checkpoint(folder.write("x.pt", file));
        REQUIRE(checkpoint.tensors().size() == 1);
        CHECK(checkpoint.tensors()[0].name == "a");
        CHECK_FALSE(checkpoint.config());
      }
    }
  }
  CHECK(refusal(torch_zip(p_dict({{"epoch", p_integer(3)}}), {})) ==
        "it holds no tensors by name\n"
        "  try: save the model's state dict: torch.save(model.state_dict(), FILE)");
  const std::string twice = p_dict({{"a", six({6}, {1})}, {"module.a", six({6}, {1})}});
  CHECK(has(refusal(torch_zip(twice, {{"0", kSix}})), "tensor 'a' is there twice"));
}

TEST_CASE("shards of PyTorch are one model, by pytorch_model.bin.index.json") {
  const ScratchFolder folder;
  const auto shard = [&](const std::string& file, const std::string& name, float first) {
    folder.write(file, torch_zip(p_dict({{name, six({6}, {1})}, {"unused", six({6}, {1})}}),
                                 {{"0", floats({first, 1, 2, 3, 4, 5})}}));
  };
  shard("pytorch_model-00001-of-00002.bin", "a", 7);
  shard("pytorch_model-00002-of-00002.bin", "b", 8);
  const auto index = [&](const std::string& second) {
    folder.write(
        "pytorch_model.bin.index.json",
        R"({"weight_map": {"a": "pytorch_model-00001-of-00002.bin", "b": ")" + second + "\"}}");
  };
  index("pytorch_model-00002-of-00002.bin");
  const TensorSource source = open_source(folder.path());
  CHECK(source.tensors().size() == 2);
  CHECK(source.find("a")->read_weight()[0] == 7.0f);
  CHECK(source.find("b")->read_weight()[0] == 8.0f);
  CHECK(source.path() == folder / "pytorch_model.bin.index.json");
  const auto message = [&] {
    return folder.message_of(Fault::bad_data, [&] { open_source(folder.path()); });
  };
  index("pytorch_model-00001-of-00002.bin");
  CHECK(message() ==
        "error: DIR/pytorch_model-00001-of-00002.bin does not hold tensor 'b'\n"
        "  pytorch_model.bin.index.json says that it does");
  index("pytorch_model-00003-of-00002.bin");
  CHECK(has(message(), "error: DIR/pytorch_model-00003-of-00002.bin is missing"));
}

TEST_CASE("nanoGPT's checkpoints are models with what their model_args say") {
  const ScratchFolder folder;
  for (const bool bias : {true, false}) {
    for (const std::string prefix : {"", "_orig_mod."}) {
      const TorchCheckpoint file(folder.write("ckpt.pt", nano_gpt(bias, prefix)));
      REQUIRE(file.config());
      CHECK(file.config_origin() == "model_args");
      CHECK(file.config()->n_head == 2);
      CHECK(file.config()->n_positions == 4);
      CHECK(file.config()->vocab_size == 3);
      CHECK(file.config()->activation_function == Activation::gelu);
      CHECK_FALSE(file.config()->eos_token_id);
      const FileTensor* attention = file.find("transformer.h.0.attn.c_attn.weight");
      CHECK(attention->shape == std::vector<std::int64_t>{2, 6});
      CHECK(attention->read_weight() == std::vector<float>{0, 2, 4, 6, 8, 10, 1, 3, 5, 7, 9, 11});
      CHECK(file.find("transformer.wte.weight")->shape == std::vector<std::int64_t>{3, 2});
      CHECK(file.find("lm_head.weight")->bytes.data() ==
            file.find("transformer.wte.weight")->bytes.data());
      for (const auto& [module, out] :
           {std::pair("h.0.ln_1", 2), std::pair("h.0.attn.c_attn", 6),
            std::pair("h.0.attn.c_proj", 2), std::pair("h.0.mlp.c_fc", 8),
            std::pair("h.0.mlp.c_proj", 2), std::pair("ln_f", 2)}) {
        INFO(module);
        const FileTensor* tensor = file.find(std::string("transformer.") + module + ".bias");
        REQUIRE(tensor != nullptr);
        std::vector<float> expected(static_cast<std::size_t>(out));
        for (std::size_t i = 0; bias && i < expected.size(); ++i)
          expected[i] = static_cast<float>(i);
        CHECK(tensor->shape == std::vector<std::int64_t>{out});
        CHECK(tensor->read_weight() == expected);
      }
    }
  }
  const std::string no_heads =
      torch_zip(p_dict({{"model", p_dict({{"a", six({6}, {1})}})},
                        {"model_args", p_dict({{"n_layer", p_integer(1)}})}}),
                {{"0", kSix}});
  CHECK(refusal(no_heads) == "its model_args have no number 'n_head'");
}

TEST_CASE("a pickle that would run code is refused by the name of the code") {
  for (const auto& [module, name] :
       {std::pair("os", "system"), std::pair("posix", "system"), std::pair("builtins", "eval"),
        std::pair("builtins", "getattr"), std::pair("subprocess", "Popen"),
        std::pair("torch.storage", "_load_from_bytes"), std::pair("torch", "load")}) {
    INFO(module << "." << name);
    const std::string named = std::string("it names ") + module + "." + name +
                              ", which the weights of a model do not need; nothing of it was run";
    const std::string call = p_call(p_global(module, name), {p_text("touch /tmp/ran")});
    CHECK(has(refusal(torch_zip(call, {})), named));
    CHECK(has(refusal(torch_row(call, {})), named));
    // Of protocol 4; where nothing calls it; beside weights; and as a class.
    const std::string stack = p_text(module) + p_text(name) + "\x93";
    CHECK(has(refusal(torch_zip(stack, {})), named));
    CHECK(has(refusal(file_of(six({6}, {1}) + "0" + p_global(module, name))), named));
    CHECK(has(refusal(torch_zip(p_global(module, name) + ")\x81", {})), named));
  }
  for (const std::string opcode : {"i", "o", "\x92", "\x82", "P"}) {
    CHECK(has(refusal(torch_zip("(" + p_text("x") + opcode + "os\nsystem\n", {})),
              "is not one that checkpoints have"));
  }
}

TEST_CASE("pickles that ask for much, or for what is not there, are refused") {
  const auto says = [](const std::string& value, const std::string& part) {
    INFO(part);
    CHECK(has(refusal(torch_zip(value, {})), part));
  };
  const std::string huge = little(std::uint64_t{1} << 60);
  says("\x8e" + huge, "it ends too early");
  says("\x8d" + huge, "it ends too early");
  says("\x95" + huge, "it takes from an empty stack");  // a frame, which nothing relies on
  says("X" + little(std::uint32_t{0xffffffff}), "it ends too early");
  says("\x8b" + little(std::uint32_t{0xffffffff}), "it ends too early");
  says("h\x07", "it recalls what it did not remember");
  says("0", "it takes from an empty stack");
  says("t", "there is no mark");
  says("}" + p_text("key") + p_text("value") + "e", "there is no mark");
  says(p_text("a") + p_text("b") + "a", "it adds to no container");
  says("}(" + p_text("key") + "u", "a key has no value");
  says(p_text("a") + ")R", "it calls what is no function");
  says("Fone\n", "a number is none");
  says("\x80\x09", "it is of protocol 9");
  // A million values, marks, or things remembered: from a byte each comes much memory.
  const std::size_t many = (std::size_t{1} << 20) + 1;
  for (const char opcode : {'N', '(', '2', '\x94', ')'}) {
    says("N" + std::string(many, opcode), "more than a checkpoint has");
  }
  // Lists in lists of what a list has twice: 2^40 values, were they ever counted.
  std::string bomb = "]q" + std::string(1, '\0') + p_text("x") + "a";
  for (char depth = 1; depth < 40; ++depth) {
    bomb += std::string("](h") + char(depth - 1) + "h" + char(depth - 1) + "eq" + depth;
  }
  says(bomb, "it holds no tensors by name");
  says("]q" + std::string(1, '\0') + "h" + std::string(1, '\0') + "a",
       "it holds no tensors by name");  // a list in itself
}

TEST_CASE("an archive whose directory does not fit it is refused with the entry's name") {
  const std::string object = pickle(p_dict({{"a", six({6}, {1})}}));
  const auto says = [&](ZipEntry storage, const std::string& part, const std::string& tail = {}) {
    INFO(part);
    storage.name = "archive/data/0";
    if (storage.bytes.empty()) storage.bytes = kSix;
    CHECK(has(refusal(zip_file({{"archive/data.pkl", object}, storage}, tail)), part));
  };
  says({.method = 8}, "'archive/data/0' is compressed, which torch.save() never does");
  says({.flags = 1}, "'archive/data/0' is encrypted");
  says({.local_name = "archive/data/1"}, "'archive/data/0' has another name where it lies");
  says({.claimed_size = 0x7fffffff}, "'archive/data/0' of 2147483647 bytes lies outside the file");
  says({.claimed_place = 0x7fffffff}, "the archive's directory is damaged at byte 2147483647");
  says({.bytes = "four"}, "tensor 'a' of shape [6] lies outside its storage of 4 bytes");
  // ZIP64: a size that the entry does not have, and an end that is elsewhere.
  const std::string wide = little(std::uint16_t{1}) + little(std::uint16_t{16}) +
                           little(std::uint64_t{1} << 60) + little(std::uint64_t{1} << 60);
  says({.claimed_size = 0xffffffff, .extra = wide}, "of 1152921504606846976 bytes lies outside");
  says({}, "the archive's directory is damaged at byte 18446744073709551615",
       "PK\6\7" + little(std::uint32_t{0}) + little(UINT64_MAX) + little(std::uint32_t{1}));
  // Two entries in one place are two names of it.
  const ZipEntry first = {"archive/data/0", kSix};
  CHECK(has(refusal(zip_file({{"archive/data.pkl", object}, first, first})),
            "'archive/data/0' is there twice"));
  CHECK(has(refusal(zip_file({first})), "the archive has no data.pkl"));
  CHECK(has(refusal(zip_file({{"archive/data.pkl", object}, {"archive/byteorder", "big"}, first})),
            "its byte order is 'big'"));
  CHECK(has(refusal(zip_file({{"archive/data.pkl", object}})),
            "lies in storage '0', which is not there"));
  CHECK(has(refusal("PK\3\4" + std::string(100, '\0')), "its end is missing"));
}

TEST_CASE("the older form is refused where its storages are not what its tensors say") {
  const std::string object = p_dict({{"a", six({6}, {1})}});
  CHECK(has(refusal(torch_row(object, {{"0", floats({1, 2})}})),
            "its storage '0' should have 6 elements, has 2"));
  CHECK(has(refusal(torch_row(object, {{"1", kSix}})), "nothing uses its storage '1'"));
  CHECK(has(refusal(torch_row(object, {})), "lies in storage '0', which is not there"));
  CHECK(has(refusal("GGUF\3" + std::string(3, '\0')), "it is a GGUF file"));
  CHECK(has(refusal(""), "it begins as no file of torch.save() does"));
  CHECK(has(refusal(pickle(object)), "it is a pickle, but not one of torch.save()"));
  // Of protocol 4: each pickle in a frame.
  std::string row = torch_row(object, {{"0", kSix}});
  const std::string frame = "\x80\x04\x95" + little(std::uint64_t{13});
  REQUIRE(row.starts_with("\x80\x02"));
  CHECK(values_of(frame + row.substr(2)) == std::vector<float>{0, 1, 2, 3, 4, 5});
}

}  // namespace quire::test

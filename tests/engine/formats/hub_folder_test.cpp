#include "engine/formats/hub_folder.h"

#include <cstring>
#include <functional>
#include <limits>
#include <map>
#include <set>

#include "engine/formats/safetensors.h"
#include "engine/model/elements.h"
#include "kernels/reference/reference_device.h"
#include "tests/support/catch.h"
#include "tests/support/fixtures.h"
#include "tests/support/scratch.h"

namespace fs = std::filesystem;
using quire::DType;
using quire::Fault;
using quire::LoadedModel;
using quire::Safetensors;
using quire::WeightStorage;
using quire::test::ScratchFolder;

namespace {

// A device whose memory the host cannot touch: addresses are marked, and marked ones fault.
class DistantDevice : public quire::ReferenceDevice {
 public:
  bool shares_host_memory() const override { return false; }
  void* allocate(std::size_t bytes) override { return mark(ReferenceDevice::allocate(bytes)); }
  void release(void* data) noexcept override { ReferenceDevice::release(mark(data)); }
  void copy_to_device(void* to, const void* from, std::size_t bytes) override {
    std::memcpy(mark(to), from, bytes);
  }
  void copy_to_host(void* to, const void* from, std::size_t bytes) override {
    std::memcpy(to, mark(const_cast<void*>(from)), bytes);
  }

 private:
  static void* mark(void* data) {
    return reinterpret_cast<void*>(reinterpret_cast<std::uintptr_t>(data) ^
                                   (std::uintptr_t{1} << 62));
  }
};

// All parameters as floats on the host, by name.
std::map<std::string, std::vector<float>> values_of(quire::Device& device,
                                                    const LoadedModel& model) {
  std::map<std::string, std::vector<float>> values;
  for (std::size_t i = 0; i < model.parameters.names().size(); ++i) {
    const quire::ConstView& view = model.parameters.weights()[i];
    std::vector<std::byte> bytes(view.size_bytes());
    device.copy_to_host(bytes.data(), view.bytes(), bytes.size());
    std::vector<float>& out = values[model.parameters.names()[i].name];
    out.resize(static_cast<std::size_t>(view.count()));
    quire::read_elements(bytes.data(), view.dtype(), out);
  }
  return values;
}

std::map<std::string, std::vector<float>> load_values(quire::Device& device, const fs::path& folder,
                                                      WeightStorage storage) {
  return values_of(device, quire::load_model(device, folder, storage));
}

// The tensors of a file, to be changed and written again.
struct Tensors {
  struct Tensor {
    std::string name;
    DType dtype;
    std::vector<std::int64_t> shape;
    std::vector<std::byte> bytes;
  };
  std::vector<Tensor> list;

  explicit Tensors(const fs::path& path) {
    const Safetensors file(path);
    for (const quire::FileTensor& tensor : file.tensors()) {
      list.push_back(
          {tensor.name, tensor.dtype(), tensor.shape, {tensor.bytes.begin(), tensor.bytes.end()}});
    }
  }
  Tensor& operator[](const std::string& name) {
    for (Tensor& tensor : list) {
      if (tensor.name == name) return tensor;
    }
    FAIL("no tensor " << name);
    return list[0];
  }
  void remove(const std::string& name) {
    std::erase_if(list, [&](const Tensor& tensor) { return tensor.name == name; });
  }
  void add(const std::string& name, std::vector<std::int64_t> shape) {
    std::size_t count = 1;
    for (const std::int64_t extent : shape) count *= static_cast<std::size_t>(extent);
    list.push_back({name, DType::f32, std::move(shape), std::vector<std::byte>(count * 4)});
  }
  void write(const fs::path& path) const {
    std::vector<quire::TensorToWrite> tensors;
    for (const Tensor& tensor : list) {
      quire::Shape shape = tensor.shape.size() == 1 ? quire::Shape{tensor.shape[0]}
                           : tensor.shape.size() == 2
                               ? quire::Shape{tensor.shape[0], tensor.shape[1]}
                               : quire::Shape{};
      tensors.push_back({tensor.name, quire::ConstView(tensor.bytes.data(), tensor.dtype, shape)});
    }
    quire::write_safetensors(path, tensors);
  }
};

// The small model of tests/data after a change, in a folder of its own.
struct Changed {
  ScratchFolder folder;
  quire::ReferenceDevice device;

  explicit Changed(const std::string& model, const std::function<void(Tensors&)>& change = {}) {
    fs::copy_file(quire::test::test_data(model) / "config.json", folder / "config.json");
    Tensors tensors(quire::test::test_data(model) / "model.safetensors");
    if (change) change(tensors);
    tensors.write(folder / "model.safetensors");
  }
  LoadedModel load(WeightStorage storage = WeightStorage::f32) {
    return quire::load_model(device, folder.path(), storage);
  }
  std::string message() {
    return folder.message_of(Fault::bad_data, [&] { load(); });
  }
};

}  // namespace

TEST_CASE("all ways to load a model give the same weights") {
  quire::ReferenceDevice near;
  DistantDevice far;
  for (const std::string model : {"tied", "untied"}) {
    const fs::path folder = quire::test::test_data(model);
    const auto expected = load_values(near, folder, WeightStorage::f32);
    CHECK(load_values(near, folder, WeightStorage::as_stored) == expected);
    CHECK(load_values(far, folder, WeightStorage::f32) == expected);
    CHECK(load_values(far, folder, WeightStorage::as_stored) == expected);
    CHECK(load_values(near, folder / "model.safetensors", WeightStorage::f32) == expected);
    CHECK(expected.contains("lm_head.weight") == (model == "untied"));

    Tensors stored(folder / "model.safetensors");
    for (const auto& [name, values] : expected) {
      REQUIRE(stored[name].bytes.size() == values.size() * 4);
      CHECK(std::memcmp(stored[name].bytes.data(), values.data(), values.size() * 4) == 0);
    }
  }
}

TEST_CASE("matrices stay mapped, and mapped they outlive the file's name") {
  Changed changed("tied", [](Tensors& tensors) {
    for (Tensors::Tensor& tensor : tensors.list) {  // to bf16
      std::vector<float> values(tensor.bytes.size() / 4);
      std::memcpy(values.data(), tensor.bytes.data(), tensor.bytes.size());
      tensor.dtype = DType::bf16;
      tensor.bytes.resize(values.size() * 2);
      quire::write_elements(values, DType::bf16, tensor.bytes.data());
    }
  });
  const auto expected = load_values(changed.device, changed.folder.path(), WeightStorage::f32);
  const LoadedModel model = changed.load(WeightStorage::as_stored);
  fs::remove(changed.folder / "model.safetensors");
  CHECK(model.parameters.wte().dtype() == DType::bf16);
  CHECK(model.parameters.layer(0)[quire::Role::c_fc].weight.dtype() == DType::bf16);
  CHECK(model.parameters.layer(0)[quire::Role::c_fc].bias.dtype() == DType::f32);
  CHECK(model.parameters.ln_f().weight.dtype() == DType::f32);
  CHECK(values_of(changed.device, model) == expected);
}

TEST_CASE("data that lies unaligned in a foreign file is copied") {
  Changed changed("tied");
  const std::string file = quire::read_file(changed.folder / "model.safetensors");
  std::uint64_t size;
  std::memcpy(&size, file.data(), sizeof size);
  for (std::uint64_t shift = 1; shift < 4; ++shift) {
    const std::uint64_t longer = size + shift;
    std::string moved(reinterpret_cast<const char*>(&longer), sizeof longer);
    moved += file.substr(8, size) + std::string(shift, ' ') + file.substr(8 + size);
    const auto expected = load_values(changed.device, changed.folder.path(), WeightStorage::f32);
    changed.folder.write("model.safetensors", moved);
    const LoadedModel model = changed.load(WeightStorage::as_stored);
    CHECK(reinterpret_cast<std::uintptr_t>(model.parameters.wte().bytes()) % 4 == 0);
    CHECK(values_of(changed.device, model) == expected);
    CHECK(load_values(changed.device, changed.folder.path(), WeightStorage::f32) == expected);
  }
}

TEST_CASE("names come without prefix, with old buffers, with the head of a tied model") {
  Changed plain("tied");
  const auto expected = values_of(plain.device, plain.load());
  Changed bare("tied", [](Tensors& tensors) {
    for (Tensors::Tensor& tensor : tensors.list) tensor.name = tensor.name.substr(12);
    tensors.add("h.0.attn.bias", {16, 16});
    tensors.add("h.1.attn.masked_bias", {1});
  });
  CHECK(values_of(bare.device, bare.load()) == expected);
  CHECK(bare.load().notes.empty());
  Changed with_head("tied", [](Tensors& tensors) {
    tensors.list.push_back(tensors["transformer.wte.weight"]);
    tensors.list.back().name = "lm_head.weight";
  });
  CHECK(values_of(with_head.device, with_head.load()) == expected);
  CHECK(with_head.load().config.tie_word_embeddings);
  CHECK(with_head.load().notes.empty());
  Changed only_head(
      "tied", [](Tensors& tensors) { tensors["transformer.wte.weight"].name = "lm_head.weight"; });
  CHECK(values_of(only_head.device, only_head.load()) == expected);
}

TEST_CASE("what is stored decides whether the head is tied, and a note says so") {
  Changed differs("tied", [](Tensors& tensors) {
    tensors.list.push_back(tensors["transformer.wte.weight"]);
    tensors.list.back().name = "lm_head.weight";
    tensors.list.back().bytes[0] ^= std::byte{1};
  });
  const LoadedModel untied = differs.load();
  CHECK_FALSE(untied.config.tie_word_embeddings);
  CHECK(untied.parameters.head().data != untied.parameters.wte().bytes());
  REQUIRE(untied.notes.size() == 1);
  CHECK(untied.notes[0].find("they differ: both are kept") != std::string::npos);

  Changed missing("untied", [](Tensors& tensors) { tensors.remove("lm_head.weight"); });
  const LoadedModel tied = missing.load(WeightStorage::as_stored);
  CHECK(tied.config.tie_word_embeddings);
  CHECK(tied.parameters.head().data == tied.parameters.wte().bytes());
  CHECK(tied.notes == std::vector<std::string>{
                          "the weights have no lm_head.weight: the head is tied to wte.weight"});
}

TEST_CASE("tensors of another head are left out with a note") {
  Changed changed("tied", [](Tensors& tensors) { tensors.add("score.weight", {2, 12}); });
  CHECK(changed.load().notes ==
        std::vector<std::string>{"left out: tensor 'score.weight' is not part of a GPT-2"});
}

TEST_CASE("weights that are not finite are named") {
  for (const auto& [value, text] : {std::pair(std::numeric_limits<float>::quiet_NaN(), "nan"),
                                    std::pair(-std::numeric_limits<float>::infinity(), "-inf")}) {
    Changed changed("tied", [v = value](Tensors& tensors) {
      std::memcpy(tensors["transformer.h.1.mlp.c_fc.weight"].bytes.data() + 4 * (3 * 20 + 17), &v,
                  4);
    });
    const std::string expected =
        std::string(
            "error: DIR/model.safetensors: tensor 'transformer.h.1.mlp.c_fc.weight' holds ") +
        text + " at [3, 17]\n  the file is damaged, or its training diverged";
    CHECK(changed.message() == expected);
    CHECK(changed.folder.message_of(Fault::bad_data,
                                    [&] { changed.load(WeightStorage::as_stored); }) == expected);
  }
}

TEST_CASE("config and weights that disagree are told apart by field") {
  const auto with_config = [](const std::string& from, const std::string& to) {
    Changed changed("tied");
    std::string config = quire::read_file(changed.folder / "config.json");
    const std::size_t at = config.find(from);
    REQUIRE(at != std::string::npos);
    config.replace(at, from.size(), to);
    changed.folder.write("config.json", config);
    return changed.message();
  };
  CHECK(with_config("\"vocab_size\": 40", "\"vocab_size\": 41") ==
        "error: DIR/model.safetensors: tensor 'transformer.wte.weight' has the shape [40, 12], "
        "config.json "
        "wants [41, 12]\n  vocab_size is 41 in config.json and 40 here");
  CHECK(with_config("\"n_inner\": 20", "\"n_inner\": null") ==
        "error: DIR/model.safetensors: tensor 'transformer.h.0.mlp.c_fc.weight' has the shape [12, "
        "20], "
        "config.json wants [12, 48]\n  n_inner is 48 in config.json and 20 here");
  CHECK(with_config("\"n_positions\": 16", "\"n_positions\": 32")
            .find("n_positions is 32 in config.json and 16 here") != std::string::npos);
  CHECK(with_config("\"n_layer\": 2", "\"n_layer\": 3") ==
        "error: DIR/model.safetensors does not fit its config.json\n"
        "  n_layer is 3 in config.json, but the weights have 2 blocks");
  CHECK(with_config("\"n_layer\": 2", "\"n_layer\": 1").find("the weights have 2 blocks") !=
        std::string::npos);
  CHECK(with_config("\"n_head\": 4", "\"n_head\": 5").find("error: DIR/config.json: n_head is 5") ==
        0);
}

TEST_CASE("missing, misshapen, doubled and strange tensors are named") {
  Changed missing("tied", [](Tensors& tensors) {
    tensors.remove("transformer.h.0.ln_1.bias");
    tensors.remove("transformer.ln_f.weight");
  });
  CHECK(missing.message() ==
        "error: DIR/model.safetensors lacks 2 of 28 tensors\n"
        "  transformer.h.0.ln_1.bias\n  transformer.ln_f.weight");
  Changed transposed("tied", [](Tensors& tensors) {
    tensors["transformer.h.0.attn.c_attn.weight"].shape = {36, 12};
  });
  CHECK(transposed.message() ==
        "error: DIR/model.safetensors: tensor 'transformer.h.0.attn.c_attn.weight' has the shape "
        "[36, 12], "
        "config.json wants [12, 36]\n  it looks transposed: GPT-2's files store [in, out]");
  Changed rank("tied", [](Tensors& tensors) { tensors["transformer.ln_f.bias"].shape = {1, 12}; });
  CHECK(rank.message().find("it has 2 extents instead of 1") != std::string::npos);
  Changed twice("tied", [](Tensors& tensors) {
    tensors.list.push_back(tensors["transformer.ln_f.bias"]);
    tensors.list.back().name = "ln_f.bias";
  });
  CHECK(twice.message() ==
        "error: DIR/model.safetensors: tensor 'ln_f.bias' is there twice\n"
        "  also as 'transformer.ln_f.bias' in DIR/model.safetensors");
  Changed integers("tied",
                   [](Tensors& tensors) { tensors["transformer.wpe.weight"].dtype = DType::i32; });
  CHECK(integers.message() ==
        "error: DIR/model.safetensors: tensor 'transformer.wpe.weight' is of type I32\n"
        "  weights are F32, F16 or BF16");
}

TEST_CASE("a shard or a tensor that the index promises is missed") {
  Changed changed("tied");
  fs::rename(changed.folder / "model.safetensors", changed.folder / "part-1.safetensors");
  std::string map;
  for (const Tensors::Tensor& tensor : Tensors(changed.folder / "part-1.safetensors").list) {
    map += (map.empty() ? "\"" : ",\"") + tensor.name + "\":\"part-1.safetensors\"";
  }
  const auto index = [&](const std::string& text) {
    changed.folder.write("model.safetensors.index.json", text);
  };
  index("{\"weight_map\":{" + map + "}}");
  CHECK(values_of(changed.device, changed.load()) ==
        values_of(changed.device, Changed("tied").load()));

  index("{\"weight_map\":{" + map + ",\"extra\":\"part-1.safetensors\"}}");
  CHECK(changed.message() ==
        "error: DIR/part-1.safetensors does not hold tensor 'extra'\n"
        "  model.safetensors.index.json says that it does");
  index("{\"weight_map\":{" + map + ",\"extra\":\"part-2.safetensors\"}}");
  CHECK(changed.message() ==
        "error: DIR/part-2.safetensors is missing\n"
        "  model.safetensors.index.json puts 1 tensors into it, 'extra' among them\n"
        "  try: download or copy the whole folder again");
  for (const std::string file :
       {"\"../part-1.safetensors\"", "\"/etc/passwd\"", "\"..\"", "\"\"", "7"}) {
    index("{\"weight_map\":{\"a\":" + file + "}}");
    CHECK(changed.message().find("which is not the name of a file beside it") != std::string::npos);
  }
  for (const std::string text : {"", "[]", "{}", "{\"weight_map\":[]}"}) {
    index(text);
    CHECK(changed.message().find(
              "error: DIR/model.safetensors.index.json is not a usable index of weights") == 0);
  }
}

TEST_CASE(
    "formats that are not read are named with what to do, those that are with their trouble") {
  quire::ReferenceDevice device;
  const auto message = [&](const std::vector<std::string>& files) {
    const ScratchFolder folder;
    for (const std::string& file : files) folder.write(file, "x");
    return folder.message_of(Fault::bad_data,
                             [&] { quire::load_model(device, folder.path(), WeightStorage::f32); });
  };
  const std::string start = "error: DIR holds no model that is read\n  ";
  CHECK(message({"tf_model.h5", "config.json"}) ==
        start +
            "tf_model.h5 is a Keras checkpoint\n"
            "  try: python3 -c \"from transformers import AutoModelForCausalLM as M; "
            "M.from_pretrained('DIR', from_tf=True).save_pretrained('CONVERTED')\" with "
            "transformers 4");
  CHECK(message({"flax_model.msgpack"}).find("a Flax checkpoint\n  try: python3 -c") !=
        std::string::npos);
  CHECK(message({"model.onnx"}) ==
        start +
            "model.onnx is an ONNX graph\n"
            "  try: the model that it was exported from, in safetensors");
  CHECK(message({"adapter_model.safetensors"}).find("a LoRA adapter") != std::string::npos);
  CHECK(message({}) ==
        "error: DIR holds no model\n  looked for model.safetensors, model.safetensors.index.json, "
        "pytorch_model.bin.index.json, *.gguf, model*.bin, pytorch_model.bin, ckpt.pt, checkpoint, "
        "*.index");
  for (const auto& [file, trouble] :
       {std::pair("pytorch_model.bin", "is not a usable PyTorch checkpoint"),
        std::pair("ckpt.pt", "is not a usable PyTorch checkpoint"),
        std::pair("pytorch_model.bin.index.json", "is not a usable index of weights"),
        std::pair("a.gguf", "is not a usable GGUF file"),
        std::pair("model.safetensors", "is not a usable safetensors file")}) {
    INFO(file);
    CHECK(message({file, "config.json"})
              .starts_with("error: DIR/" + std::string(file) + " " + trouble));
  }
  CHECK(message({"a.gguf", "b.gguf"}) ==
        "error: DIR holds several models\n  a.gguf and b.gguf\n  try: name one of the files");

  const ScratchFolder folder;
  const auto of_path = [&](const fs::path& path) {
    return folder.message_of(Fault::bad_data,
                             [&] { quire::load_model(device, path, WeightStorage::f32); });
  };
  CHECK(of_path(folder / "none") ==
        "error: there is no model at DIR/none\n  neither a folder nor a file has that name");
  for (const char* name : {"m.gguf", "m.bin", "m.pt", "m.safetensors"}) {
    INFO(name);
    CHECK(of_path(folder.write(name, "x")).find("is not a usable") != std::string::npos);
  }
  for (const char* name : {"m.txt", "m.index", "checkpoint"}) {
    INFO(name);
    CHECK(of_path(folder.write(name, "x")) ==
          "error: DIR/" + std::string(name) +
              " cannot be read as a model\n  it is neither a folder nor a file of weights: "
              ".safetensors, .gguf, .bin, .pt, .index");
  }
}

TEST_CASE("saving and loading returns the model, rounded to the type asked for") {
  quire::ReferenceDevice near;
  DistantDevice far;
  for (quire::Device* device :
       {static_cast<quire::Device*>(&near), static_cast<quire::Device*>(&far)}) {
    for (const std::string name : {"tied", "untied"}) {
      const ScratchFolder folder;
      const LoadedModel model =
          quire::load_model(*device, quire::test::test_data(name), WeightStorage::as_stored);
      const auto original = values_of(*device, model);
      for (const DType dtype : {DType::f32, DType::f16, DType::bf16}) {
        quire::save_model(*device, folder / "out", model.config, model.parameters, dtype);
        auto expected = original;
        for (auto& [parameter, values] : expected) {
          std::vector<std::byte> stored(values.size() * size_of(dtype));
          quire::write_elements(values, dtype, stored.data());
          quire::read_elements(stored.data(), dtype, values);
        }
        const LoadedModel again =
            quire::load_model(*device, folder / "out", WeightStorage::as_stored);
        CHECK(values_of(*device, again) == expected);
        CHECK(again.parameters.wte().dtype() == dtype);
        CHECK(again.notes.empty());
        CHECK(quire::config_to_json(again.config, dtype) ==
              quire::config_to_json(model.config, dtype));
      }
      CHECK(Safetensors(folder / "out" / "model.safetensors").metadata().at("format") == "pt");
      CHECK(std::distance(fs::directory_iterator(folder / "out"), {}) == 3);
    }
  }
}

TEST_CASE("a model may be saved over the file that it is mapped from") {
  Changed changed("tied");
  const LoadedModel model = changed.load(WeightStorage::as_stored);
  const auto expected = values_of(changed.device, model);
  quire::save_model(changed.device, changed.folder.path(), model.config, model.parameters,
                    DType::f32);
  CHECK(values_of(changed.device, model) == expected);
  CHECK(values_of(changed.device, changed.load()) == expected);
}

TEST_CASE("a model that diverged or does not fit its type is not saved, and the old one stays") {
  Changed changed("tied");
  const LoadedModel model = changed.load();
  const std::string weights = quire::read_file(changed.folder / "model.safetensors");
  const std::string config = quire::read_file(changed.folder / "config.json");
  const auto save = [&](DType dtype) {
    quire::Gpt2Config other = model.config;
    other.resid_pdrop = 0.5f;  // would show in config.json
    quire::save_model(changed.device, changed.folder.path(), other, model.parameters, dtype);
  };
  const std::size_t ln_2_bias = quire::weight_index(1, quire::Role::ln_2) + 1;
  float* value = model.parameters.tensors()[ln_2_bias].data<float>() + 7;
  *value = 1e30f;
  CHECK(changed.folder.message_of(Fault::bad_data, [&] { save(DType::f16); })
            .find("tensor 'transformer.h.1.ln_2.bias' cannot be stored as float16") !=
        std::string::npos);
  *value = std::numeric_limits<float>::quiet_NaN();
  CHECK(changed.folder.message_of(Fault::diverged, [&] { save(DType::f32); }) ==
        "error: the model was not saved: tensor 'transformer.h.1.ln_2.bias' holds nan\n"
        "  at element 7 of [12]\n"
        "  try: go on from the last good checkpoint, with a lower learning rate");
  CHECK(quire::read_file(changed.folder / "model.safetensors") == weights);
  CHECK(quire::read_file(changed.folder / "config.json") == config);
}

TEST_CASE("every stored form of one model holds the same weights") {
  QUIRE_FIXTURE(models, "models");
  QUIRE_FIXTURE(forms, "models/tiny-char-formats");
  quire::ReferenceDevice device;
  const auto original = load_values(device, models / "tiny-char", WeightStorage::f32);
  for (const auto& [form, dtype] :
       {std::pair("sharded", DType::f16), std::pair("bf16", DType::bf16),
        std::pair("fp16-lm-head-buffers", DType::f16), std::pair("hub-layout", DType::f32)}) {
    INFO(form);
    auto expected = original;
    for (auto& [name, values] : expected) {
      std::vector<std::byte> stored(values.size() * size_of(dtype));
      quire::write_elements(values, dtype, stored.data());
      quire::read_elements(stored.data(), dtype, values);
    }
    const fs::path folder = forms / form;
    CHECK(load_values(device, folder, WeightStorage::f32) == expected);
    const LoadedModel model = quire::load_model(device, folder, WeightStorage::as_stored);
    CHECK(values_of(device, model) == expected);
    CHECK(model.parameters.wte().dtype() == dtype);
    CHECK(model.parameters.head().data == model.parameters.wte().bytes());
    CHECK(model.notes.empty());
  }
}

TEST_CASE("the odd models load as their configs say") {
  QUIRE_FIXTURE(models, "models");
  quire::ReferenceDevice device;
  for (const std::string name :
       {"odd-tied", "odd-untied", "odd-inverse-layer", "odd-gelu", "odd-relu", "odd-inner"}) {
    INFO(name);
    const LoadedModel model = quire::load_model(device, models / name, WeightStorage::as_stored);
    CHECK(model.notes.empty());
    CHECK(model.config.n_embd == 48);
    CHECK(model.config.head_size() == 16);
    CHECK(model.config.tie_word_embeddings == (name != "odd-untied"));
    CHECK(model.config.scale_attn_by_inverse_layer_idx == (name == "odd-inverse-layer"));
    CHECK(model.config.scale_attn_weights == (name != "odd-inner"));
    CHECK(model.config.inner() == (name == "odd-inner" ? 100 : 192));
    CHECK(model.config.activation_function == (name == "odd-gelu"   ? quire::Activation::gelu
                                               : name == "odd-relu" ? quire::Activation::relu
                                                                    : quire::Activation::gelu_new));
  }
}

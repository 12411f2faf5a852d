// Matrices in blocks: which bits they have, whatever they come from, and which cannot be.
#include "engine/formats/packed_weights.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>

#include "engine/formats/gguf.h"
#include "engine/formats/hub_folder.h"
#include "engine/formats/quantised.h"
#include "tests/engine/formats/tiny_char.h"
#include "tests/engine/model/model_case.h"
#include "tests/support/blocks.h"
#include "tests/support/scratch.h"

using namespace quire;
using namespace quire::test;

namespace {

/// Two blocks of 64 channels; mlp.c_proj sums over 320, more than is read at once; 61 ids, 13 of them
/// in a panel that is not full.
Gpt2Config config_of_blocks() {
  Gpt2Config config;
  config.vocab_size = 61;
  config.n_positions = 16;
  config.n_embd = 64;
  config.n_layer = 2;
  config.n_head = 4;
  config.n_inner = 320;
  config.initializer_range = 0.3f;
  return config;
}

Weight packed_of(const Parameters& parameters, const Gpt2Config& config, std::size_t i) {
  if (i == 0) return parameters.table();
  for (int layer = 0; layer < config.n_layer; ++layer) {
    for (const Role product : kProducts) {
      if (weight_index(layer, product) == i) return parameters.matrix(layer, product);
    }
  }
  return parameters.head();
}

/// The blocks of [N, K].
std::string rounded(WeightFormat format, const std::vector<float>& values) {
  const WeightFormatEntry& entry = entry_of(format);
  std::string blocks(values.size() / static_cast<std::size_t>(entry.block_elements) *
                         static_cast<std::size_t>(entry.block_bytes),
                     '\0');
  auto* const to = reinterpret_cast<std::byte*>(blocks.data());
  const auto too_large = format == WeightFormat::q8_0 ? quantise("Q8_0", values, to)
                                                      : quantise_q4_0_closely(values, to);
  REQUIRE_FALSE(too_large);
  return blocks;
}

/// Every matrix in blocks, against the floats [K, N] or [V, C] that were rounded to them; all else
/// against those floats.
void check_rounded(Device& device, const LoadedModel& model, Quantisation quantisation,
                   const std::vector<std::vector<float>>& floats) {
  const std::vector<NamedParameter> list = parameter_list(model.config);
  CHECK(model.parameters.in_blocks());
  std::size_t in_blocks = 0;
  for (std::size_t i = 0; i < list.size(); ++i) {
    INFO(list[i].name);
    const auto format = format_in(quantisation, list[i]);
    if (!format) continue;
    ++in_blocks;
    const Weight weight = packed_of(model.parameters, model.config, i);
    CHECK(weight.format == *format);
    CHECK(weight.layout == WeightLayout::out_in);
    CHECK(weight.shape == out_in_shape(list[i]));
    CHECK(reinterpret_cast<std::uintptr_t>(weight.data) % 64 == 0);
    const bool table = list[i].is_head || list[i].name.ends_with("wte.weight");
    CHECK((unpacked(weight) ==
           rounded(*format, table ? floats[i] : turned(floats[i], list[i].shape[1]))));
  }
  CHECK(in_blocks == static_cast<std::size_t>(4 * model.config.n_layer) +
                         (model.config.tie_word_embeddings ? 1 : 2));
  CHECK(to_host(device, model.parameters.ln_f().weight) ==
        floats[list.size() - 2 - (model.config.tie_word_embeddings ? 0 : 1)]);
  CHECK(download(device, model.parameters.wpe()) == floats[1]);
}

std::vector<std::vector<float>> floats_of(Device& device, const Parameters& parameters) {
  std::vector<std::vector<float>> floats;
  for (const ConstView& weight : parameters.weights()) floats.push_back(download(device, weight));
  return floats;
}

/// Where the one with a NaN in its element [1, 2] is refused, the words of it.
std::string refusal(const ScratchFolder& folder, WeightStorage storage, Device& device) {
  return folder.message_of(Fault::bad_data, [&] { load_model(device, folder.path(), storage); });
}

}  // namespace

TEST_CASE(
    "int8 and int4 round what a folder has, of any type, as blocks along the summed dimension") {
  for (const std::string& name : {std::string("cpu"), std::string("reference")}) {
    const auto device = open_test_device(name);
    for (const bool tied : {true, false}) {
      Gpt2Config config = config_of_blocks();
      config.tie_word_embeddings = tied;
      const Parameters source = initialize_parameters(*device, config, 5);
      for (const DType dtype : {DType::f32, DType::f16, DType::bf16}) {
        INFO(name << ", tied " << tied << ", " << name_of(dtype));
        const ScratchFolder folder;
        save_model(*device, folder.path(), config, source, dtype);
        const LoadedModel plain = load_model(*device, folder.path(), WeightStorage::as_stored);
        const auto floats = floats_of(*device, plain.parameters);
        check_rounded(*device, load_model(*device, folder.path(), WeightStorage::int8),
                      Quantisation::int8, floats);
        check_rounded(*device, load_model(*device, folder.path(), WeightStorage::int4),
                      Quantisation::int4, floats);
        // And out of memory.
        for (const Quantisation to : {Quantisation::int8, Quantisation::int4}) {
          check_rounded(*device, {config, quantised(*device, config, plain.parameters, to), {}}, to,
                        floats);
        }
      }
    }
  }
}

TEST_CASE("int8 and int4 are the same of every format of file") {
  QUIRE_FIXTURE(models, "models");
  const auto device = open_test_device("cpu");
  for (const char* name : {"tiny-char", "tiny-char-formats/bin-legacy", "tiny-char-formats/bf16",
                           "tiny-char-gguf/tiny-char-f32.gguf", "tiny-char-gguf/tiny-char-f16.gguf",
                           "tiny-char-gguf/tiny-char-q8_0.gguf", "tiny-char-llmc/model_fp32.bin",
                           "tiny-char-llmc/model_bf16.bin"}) {
    INFO(name);
    const LoadedModel plain = load_model(*device, models / name, WeightStorage::f32);
    const auto floats = floats_of(*device, plain.parameters);
    check_rounded(*device, load_model(*device, models / name, WeightStorage::int8),
                  Quantisation::int8, floats);
    check_rounded(*device, load_model(*device, models / name, WeightStorage::int4),
                  Quantisation::int4, floats);
  }
}

TEST_CASE("the blocks of a GGUF file are the weights, bit for bit, where the device reads them") {
  QUIRE_FIXTURE(path, "models/tiny-char-gguf/tiny-char-q8_0.gguf");
  const Gguf file(path);
  for (const std::string& name : kDevices) {
    INFO(name);
    const auto device = open_test_device(name);
    const LoadedModel model = load_model(*device, path, WeightStorage::as_stored);
    CHECK(model.parameters.in_blocks() == (name != kCudaDevice));
    if (!model.parameters.in_blocks()) {
      REQUIRE(model.notes.size() == 1);
      CHECK(model.notes[0].find("become float32") != std::string::npos);
      continue;
    }
    CHECK(model.notes.empty());
    const std::vector<NamedParameter> list = parameter_list(model.config);
    for (std::size_t i = 0; i < list.size(); ++i) {
      INFO(list[i].name);
      if (!multiplies(list[i])) continue;
      const FileTensor& tensor = *file.find(bare_name(list[i].name));
      REQUIRE(tensor.dtype_name() == "Q8_0");
      const std::string blocks = unpacked(packed_of(model.parameters, model.config, i));
      REQUIRE(blocks.size() == tensor.bytes.size());
      CHECK(std::memcmp(blocks.data(), tensor.bytes.data(), blocks.size()) == 0);
    }
    CHECK_FALSE(load_model(*device, path, WeightStorage::plain).parameters.in_blocks());
  }
}

TEST_CASE("a number that no block can hold is named, wherever it lies") {
  const Gpt2Config config = config_of_blocks();
  const auto device = open_test_device("cpu");
  for (const auto& [name, shown] :
       {std::pair("transformer.h.1.mlp.c_proj.weight", "'transformer.h.1.mlp.c_proj.weight'"),
        std::pair("transformer.wte.weight", "'transformer.wte.weight'")}) {
    for (const auto& [value, what] :
         {std::pair(NAN, " holds nan at [60, 7]"), std::pair(-INFINITY, " holds -inf at [60, 7]"),
          std::pair(9e6f, " cannot be stored as ")}) {
      INFO(name << ", " << value);
      Parameters source = initialize_parameters(*device, config, 5);
      const View tensor = source.tensors()[source.index_of(name)];
      tensor.data<float>()[60 * tensor.shape()[1] + 7] = value;
      const ScratchFolder folder;
      // save_model() would refuse it.
      std::vector<TensorToWrite> all;
      for (std::size_t i = 0; i < source.names().size(); ++i) {
        all.push_back({source.names()[i].name, source.weights()[i], DType::f32});
      }
      folder.write("config.json", config_to_json(config, DType::f32));
      const float whole = tensor.data<float>()[60 * tensor.shape()[1] + 7];
      tensor.data<float>()[60 * tensor.shape()[1] + 7] = 0.5f;
      save_weights(
          *device, folder / "model.safetensors", std::move(all), {},
          [](const std::string& a, const std::string& b) { return Error(Fault::internal, a + b); });
      std::string bytes = read_file(folder / "model.safetensors");
      const Safetensors file(folder / "model.safetensors");
      const std::span<const std::byte> at = file.find(name)->bytes;
      const std::size_t offset =
          static_cast<std::size_t>(at.data() - file.find(name)->file->bytes().data()) +
          static_cast<std::size_t>(60 * tensor.shape()[1] + 7) * sizeof(float);
      std::memcpy(bytes.data() + offset, &whole, sizeof whole);
      folder.write("model.safetensors", bytes);
      for (const WeightStorage storage : {WeightStorage::int8, WeightStorage::int4}) {
        const std::string said = refusal(folder, storage, *device);
        INFO(said);
        CHECK(said.find(shown) != std::string::npos);
        CHECK(said.find(what) != std::string::npos);
        CHECK((std::isfinite(value) == (said.find("[60, 7] is 9000000") != std::string::npos)));
      }
    }
  }
}

TEST_CASE("matrices whose rows do not fill blocks stay as they are, and a note says so") {
  Gpt2Config config = config_of_blocks();
  config.n_inner = 100;
  const auto device = open_test_device("cpu");
  const ScratchFolder folder;
  save_model(*device, folder.path(), config, initialize_parameters(*device, config, 5),
             DType::bf16);
  const LoadedModel model = load_model(*device, folder.path(), WeightStorage::int4);
  REQUIRE(model.notes.size() == 1);
  CHECK(model.notes[0] ==
        "2 of 9 matrices are not int4, blocks of 32, but stay as they are: "
        "'transformer.h.0.mlp.c_proj.weight', whose rows have 100");
  CHECK(model.parameters.matrix(0, Role::mlp_proj).format == WeightFormat::bfloat16);
  CHECK(model.parameters.matrix(0, Role::c_fc).format == WeightFormat::q4_0);
  CHECK(model.parameters.table().format == WeightFormat::q8_0);

  config.n_embd = 48;
  save_model(*device, folder.path(), config, initialize_parameters(*device, config, 5),
             DType::bf16);
  CHECK(refusal(folder, WeightStorage::int8, *device) ==
        "error: no matrix of the model can be stored in int8\n"
        "  n_embd is 48 and n_inner 100: blocks of 32 elements do not fill a row\n"
        "  try: `dtype` auto");
}

TEST_CASE("a device without products of blocks refuses them before anything is read") {
  const Gpt2Config config = config_of_blocks();
  const auto device = open_test_device(kCudaDevice);
  const ScratchFolder folder;
  const auto cpu = open_test_device("cpu");
  save_model(*cpu, folder.path(), config, initialize_parameters(*cpu, config, 5), DType::f32);
  const std::string said = folder.message_of(
      Fault::device, [&] { load_model(*device, folder.path(), WeightStorage::int8); });
  CHECK(said.find("error: this device does not compute with weights in int8\n") == 0);
  CHECK(said.find("try: `device` cpu, or `dtype` auto") != std::string::npos);
}

TEST_CASE("the plan of a model in blocks is what it takes") {
  const auto device = open_test_device("cpu");
  for (const Quantisation to : {Quantisation::int8, Quantisation::int4}) {
    Gpt2Config config = config_of_blocks();
    config.vocab_size = 64;  // whole panels
    config.n_positions = 16;
    // Codes and scales of tables, matrices; floats of positions; biases and layernorms.
    const std::size_t C = 64, I = 320, V = 64;
    const std::size_t layers = 2 * (C * 3 * C + C * C + 2 * C * I);
    const std::size_t table = V * C;
    const std::size_t vectors = 2 * (4 * C + 3 * C + C + I + C) + 2 * C;
    const std::size_t wanted = table / 32 * 34 +
                               layers / 32 * (to == Quantisation::int8 ? 34 : 18) +
                               (16 * C + vectors) * 4;
    CHECK(quantised_bytes(config, to, DType::f32) == wanted);
    config.n_inner = 100;  // mlp.c_proj has floats
    const std::size_t smaller = quantised_bytes(config, to, DType::f32);
    CHECK(quantised_bytes(config, to, DType::bf16) == smaller - 2 * (2 * 100 * C) - 2 * 16 * C);
  }
}

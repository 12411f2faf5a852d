// Matrices of layers that a file has as [out, in]: products read them as they lie, and nothing of
// what the model says changes with it.
#include <cstring>
#include <limits>

#include "engine/formats/hub_folder.h"
#include "engine/model/kv_cache.h"
#include "kernels/reference/reference_device.h"
#include "tests/engine/model/odd_model.h"
#include "tests/support/scratch.h"

using namespace quire;
using namespace quire::test;

namespace {

/// As they lie in the file of tiny-char, and not there.
const std::vector<std::string> kOutIn = {
    "tiny-char-gguf/tiny-char-f32.gguf", "tiny-char-gguf/tiny-char-f16.gguf",
    "tiny-char-llmc/model_fp32.bin", "tiny-char-llmc/model_bf16.bin"};
const std::string kInOut = "tiny-char-formats/hub-layout";

/// Counts what it is asked for, by the byte.
class CountingDevice : public ReferenceDevice {
 public:
  std::size_t allocated = 0;
  void* allocate(std::size_t bytes) override {
    allocated += bytes;
    return ReferenceDevice::allocate(bytes);
  }
};

std::size_t bytes_in_layers(const LoadedModel& model) {
  std::size_t bytes = 0;
  for (int layer = 0; layer < model.config.n_layer; ++layer) {
    for (const Role product : kProducts) {
      bytes += model.parameters.matrix(layer, product).size_bytes();
    }
  }
  return bytes;
}

/// Logits after a prompt, then after one token and another.
std::vector<float> decoded(Device& device, const LoadedModel& model) {
  const std::vector<std::int32_t> prompt = {5, 3, 8, 1, 9, 4, 7, 2, 6, 11, 3};
  Gpt2Decoder decoder(device, model.config, model.parameters, 1, 16, 11);
  std::vector<float> all = to_host(device, decoder.forward(1, prompt).rows(0, 1));
  for (const std::int32_t id : {10, 2}) {
    const std::vector<std::int32_t> next = {id};
    const std::vector<float> row = to_host(device, decoder.forward(1, next).rows(0, 1));
    all.insert(all.end(), row.begin(), row.end());
  }
  return all;
}

void check_same(const Device& device, const std::string& what, const std::vector<float>& got,
                const std::vector<float>& want) {
  compare_rows(device.rows_alone(), what, got, want, 64 * kEps * largest_magnitude(want));
}

}  // namespace

TEST_CASE("matrices that lie as [out, in] are read so, with the same losses and logits") {
  QUIRE_FIXTURE(models, "models");
  for (const std::string& name : kDevices) {
    const auto device = open_test_device(name);
    for (const std::string& file : kOutIn) {
      INFO(name << ", " << file);
      const LoadedModel model = load_model(*device, models / file, WeightStorage::as_stored);
      const LoadedModel plain = load_model(*device, models / file, WeightStorage::plain);
      CHECK_FALSE(model.parameters.in_blocks());
      for (int layer = 0; layer < model.config.n_layer; ++layer) {
        for (const Role product : kProducts) {
          const Weight lies = model.parameters.matrix(layer, product),
                       turned = plain.parameters.matrix(layer, product);
          CHECK(lies.layout == WeightLayout::out_in);
          CHECK(turned.layout == WeightLayout::in_out);
          CHECK(lies.in() == turned.in());
          CHECK(lies.out() == turned.out());
          CHECK(lies.format == turned.format);
        }
      }
      CHECK_THROWS_AS(model.parameters.weights(), Error);
      const RandomBatch batch(3, 20, model.config.vocab_size);
      check_same(*device, "losses",
                 Gpt2(*device, model.config, model.parameters).token_losses(batch.view()),
                 Gpt2(*device, plain.config, plain.parameters).token_losses(batch.view()));
      check_same(*device, "decoded", decoded(*device, model), decoded(*device, plain));
    }
  }
}

TEST_CASE("matrices that lie as [out, in] stay in their file where the device reads it there") {
  QUIRE_FIXTURE(models, "models");
  for (const std::string& file : kOutIn) {
    INFO(file);
    for (const WeightStorage storage : {WeightStorage::as_stored, WeightStorage::plain}) {
      CountingDevice device;
      const LoadedModel model = load_model(device, models / file, storage);
      CHECK((device.allocated > bytes_in_layers(model)) == (storage == WeightStorage::plain));
    }
  }
  CountingDevice device;
  const LoadedModel model = load_model(device, models / kInOut, WeightStorage::as_stored);
  CHECK(device.allocated < bytes_in_layers(model));
  CHECK(model.parameters.matrix(0, Role::c_fc).layout == WeightLayout::in_out);
}

TEST_CASE("a number that is not finite is named by its place in a matrix that lies as [out, in]") {
  QUIRE_FIXTURE(models, "models");
  ReferenceDevice device;
  const std::string file = "tiny-char-llmc/model_fp32.bin";
  const LoadedModel model = load_model(device, models / file, WeightStorage::as_stored);
  const Weight weight = model.parameters.matrix(1, Role::c_fc);  // [out, in]
  std::string bytes = read_file(models / file);
  const std::string_view lies(static_cast<const char*>(weight.data), weight.size_bytes());
  const std::size_t at = bytes.find(lies);
  REQUIRE(at != std::string::npos);
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const auto element = static_cast<std::size_t>(7 * weight.in() + 3);
  std::memcpy(bytes.data() + at + element * sizeof nan, &nan, sizeof nan);
  const ScratchFolder folder;
  write_file(folder / "x.bin", bytes);
  CHECK(
      folder.message_of(Fault::bad_data,
                        [&] { load_model(device, folder / "x.bin", WeightStorage::as_stored); }) ==
      "error: DIR/x.bin: tensor 'h.1.mlp.c_fc.weight' holds nan at [3, 7]\n"
      "  the file is damaged, or its training diverged");
}

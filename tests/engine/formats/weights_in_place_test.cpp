// What is read where it lies in files is laid out for decoding, a part with each step.
#include "engine/formats/weights_in_place.h"

#include <cstring>
#include <fstream>

#include "base/file.h"
#include "engine/formats/gguf_writer.h"
#include "engine/formats/hub_folder.h"
#include "engine/formats/sink.h"
#include "engine/model/elements.h"
#include "engine/model/forward.h"
#include "engine/model/kv_cache.h"
#include "engine/model/parameters.h"
#include "kernels/open_device.h"
#include "tests/support/catch.h"
#include "tests/support/fixtures.h"
#include "tests/support/scratch.h"

using namespace quire;
using namespace quire::test;

namespace {

/// Bytes of that file which take the process's memory.
std::size_t resident_from(const std::filesystem::path& file) {
  std::ifstream maps("/proc/self/smaps");
  std::size_t bytes = 0;
  bool in_file = false;
  for (std::string line; std::getline(maps, line);) {
    std::size_t first = 0, last = 0, kilobytes = 0;
    if (std::sscanf(line.c_str(), "%zx-%zx ", &first, &last) == 2) {
      in_file = line.find(file.string()) != std::string::npos;
    } else if (in_file && std::sscanf(line.c_str(), "Rss: %zu kB", &kilobytes) == 1) {
      bytes += kilobytes << 10;
    }
  }
  return bytes;
}

struct Matrix {
  FileTensor tensor;
  Weight stored;
};

/// [K, N] of float32, from `first` on.
Matrix matrix_in(const std::shared_ptr<const MappedFile>& file, std::size_t first, std::int64_t K,
                 std::int64_t N) {
  Matrix matrix;
  matrix.tensor.name = "part";
  matrix.tensor.type = element_type("F32");
  matrix.tensor.shape = {K, N};
  matrix.tensor.bytes = file->bytes().subspan(first, static_cast<std::size_t>(K * N) * 4);
  matrix.tensor.file = file;
  matrix.stored = {ConstView(matrix.tensor.bytes.data(), DType::f32, {K, N}), WeightLayout::in_out};
  return matrix;
}

std::string pattern(std::size_t size) {
  std::string text(size, 'x');
  for (std::size_t i = 0; i < size; i += 997) text[i] = static_cast<char>(i % 251);
  return text;
}

bool lies_in_panels_as(const Weight& panels, const Weight& stored) {
  const auto* got = static_cast<const std::uint32_t*>(panels.data);
  const auto* want = static_cast<const std::uint32_t*>(stored.data);
  for (std::int64_t k = 0; k < stored.in(); ++k) {
    for (std::int64_t n = 0; n < stored.out(); ++n) {
      const std::int64_t at = n / kPanelColumns * panels.panel_elements() + k * kPanelColumns;
      if (got[at + n % kPanelColumns] != want[k * stored.out() + n]) return false;
    }
  }
  return true;
}

}  // namespace

TEST_CASE("weights in place are laid out step by step, the last first, and their file let go") {
  const ScratchFolder folder;
  constexpr std::int64_t K = 1024, kFirst = 2500, kSecond = 4500;  // 10 and 18 MB
  const auto path = folder.write("weights", pattern(K * (kFirst + kSecond) * 4));
  const auto file = std::make_shared<const MappedFile>(path);
  const auto device = open_device("cpu");
  const Matrix first = matrix_in(file, 0, K, kFirst);
  const Matrix second = matrix_in(file, K * kFirst * 4, K, kSecond);
  const auto laid_out = std::make_shared<LaidOutWeights>(5);
  WeightsInPlace weights(laid_out, /*worth_it=*/20 << 20);
  weights.add(first.tensor, first.stored, WeightLayout::panels, 3);
  weights.add(second.tensor, second.stored, WeightLayout::panels, 1);
  const auto now = [&](const Matrix& matrix, std::size_t index) {
    return laid_out->instead_of(matrix.stored, index);
  };
  CHECK(now(second, 1).data == second.stored.data);
  weights.step(*device);  // 16 MB or more of it
  CHECK(now(second, 1).layout == WeightLayout::panels);
  CHECK(now(first, 3).data == first.stored.data);
  CHECK(now(first, 3).layout == WeightLayout::in_out);
  CHECK(resident_from(path) <= std::size_t{1} << 20);
  weights.step(*device);
  CHECK(resident_from(path) <= std::size_t{1} << 20);
  CHECK(now(first, 3).layout == WeightLayout::panels);
  CHECK(now(first, 3).in() == K);
  CHECK(now(first, 3).out() == kFirst);
  CHECK(lies_in_panels_as(now(first, 3), first.stored));
  CHECK(lies_in_panels_as(now(second, 1), second.stored));
  weights.step(*device);  // nothing is left
}

TEST_CASE("weights in place stay in their file where they are few") {
  const ScratchFolder folder;
  constexpr std::int64_t K = 1024, N = 7680;
  const auto path = folder.write("weights", pattern(K * N * 4));
  const auto device = open_device("cpu");
  const Matrix matrix = matrix_in(std::make_shared<const MappedFile>(path), 0, K, N);
  const auto laid_out = std::make_shared<LaidOutWeights>(1);
  WeightsInPlace weights(laid_out);
  weights.add(matrix.tensor, matrix.stored, WeightLayout::panels, 0);
  for (int i = 0; i < 3; ++i) weights.step(*device);
  CHECK(laid_out->instead_of(matrix.stored, 0).data == matrix.stored.data);
}

TEST_CASE("decoding lays out the weights of a large model, prompts do not; logits stay the same") {
  const ScratchFolder folder;
  const auto device = open_device("cpu");
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16}) {
    INFO(name_of(dtype));
    Gpt2Config config{.vocab_size = 500, .n_positions = 32, .n_embd = 512, .n_head = 4};
    config.n_layer = static_cast<int>(12 / size_of(dtype));  // matrices of 38 MB
    save_model(*device, folder.path(), config, initialize_parameters(*device, config, 1), dtype);
    const OpenedModel opened = open_model(folder.path());
    std::vector<OutTensor> tensors;
    for (std::size_t i = 0; i < opened.tensors.size(); ++i) {
      tensors.push_back(OutTensor::of(*opened.tensors[i], opened.parameters[i].name));
    }
    std::vector<std::string> notes;
    AtomicFile file(folder / "model.gguf");
    write(file, gguf_layout(config, std::move(tensors), {}, "laid out", notes));
    file.commit();

    const auto head_layout = [&](const LoadedModel& model) {
      return model.parameters.decoding_head().layout;
    };
    const auto logits_of = [&](const LoadedModel& model) {
      const WeightLayout before = head_layout(model);
      Gpt2Decoder decoder(*device, config, model.parameters, 1, 32, 3);
      decoder.forward(1, std::vector<std::int32_t>{1, 2, 3});
      CHECK(head_layout(model) == before);
      std::vector<float> all;
      for (std::int32_t id = 4; id < 24; ++id) {
        const std::vector<float> logits = download(*device, decoder.forward(1, std::vector{id}));
        all.insert(all.end(), logits.begin(), logits.end());
      }
      return all;
    };
    const LoadedModel plain = load_model(*device, folder.path(), WeightStorage::plain);
    const std::vector<float> want = logits_of(plain);
    CHECK(head_layout(plain) == WeightLayout::out_in);
    for (const auto& path : {folder.path(), folder / "model.gguf"}) {
      const LoadedModel model = load_model(*device, path, WeightStorage::as_stored);
      CHECK(head_layout(model) == WeightLayout::out_in);
      CHECK(logits_of(model) == want);
      const auto layout =
          device->layout_to_decode(dtype, inference_precision(*device, config, model.parameters));
      CHECK(head_layout(model) == layout.value_or(WeightLayout::out_in));
      CHECK(model.parameters.decoding_matrix(config.n_layer - 1, Role::c_fc).layout ==
            head_layout(model));
      CHECK(logits_of(model) == want);  // its prompt, too, by what is laid out
    }
  }
}

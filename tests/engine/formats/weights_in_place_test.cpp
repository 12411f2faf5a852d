// What is read where it lies in files moves into huge pages, at its addresses.
#include "engine/formats/weights_in_place.h"

#include <cstring>
#include <fstream>

#include "base/file.h"
#include "engine/formats/hub_folder.h"
#include "engine/model/elements.h"
#include "engine/model/kv_cache.h"
#include "engine/model/parameters.h"
#include "kernels/open_device.h"
#include "tests/support/catch.h"
#include "tests/support/fixtures.h"
#include "tests/support/scratch.h"

using namespace quire;
using namespace quire::test;

namespace {

constexpr std::size_t kHuge = MappedFile::kHugePage;

std::string pattern(std::size_t size) {
  std::string text(size, 'x');
  for (std::size_t i = 0; i < size; i += 997) text[i] = static_cast<char>(i % 251);
  return text;
}

bool huge_pages_here() {
  std::ifstream in("/sys/kernel/mm/transparent_hugepage/enabled");
  std::string ways;
  return std::getline(in, ways) && ways.find("[never]") == std::string::npos;
}

/// Bytes of the process's memory that are mapped from that file.
std::size_t mapped_from(const std::filesystem::path& file) {
  std::ifstream maps("/proc/self/maps");
  std::size_t bytes = 0;
  for (std::string line; std::getline(maps, line);) {
    if (line.find(file.string()) == std::string::npos) continue;
    std::size_t first = 0, last = 0;
    REQUIRE(std::sscanf(line.c_str(), "%zx-%zx", &first, &last) == 2);
    bytes += last - first;
  }
  return bytes;
}

FileTensor part_of(const std::shared_ptr<const MappedFile>& file, std::size_t first,
                   std::size_t last) {
  FileTensor tensor;
  tensor.name = "part";
  tensor.type = element_type("F32");
  tensor.shape = {static_cast<std::int64_t>((last - first) / 4)};
  tensor.bytes = file->bytes().subspan(first, last - first);
  tensor.file = file;
  return tensor;
}

}  // namespace

TEST_CASE("weights in place move into memory step by step and keep addresses and bytes") {
  const ScratchFolder folder;
  const std::string text = pattern(45 * kHuge + 4096);
  const auto path = folder.write("weights", text);
  const auto file = std::make_shared<const MappedFile>(path);
  const std::byte* const at = file->bytes().data();
  WeightsInPlace weights(/*worth_it=*/kHuge);
  // Two neighbours, and one further off; what lies between stays.
  weights.add(part_of(file, 4096, 20 * kHuge + 128));
  weights.add(part_of(file, 20 * kHuge + 128, 30 * kHuge));
  weights.add(part_of(file, 35 * kHuge, text.size()));
  const std::size_t before = mapped_from(path);
  CHECK(before >= text.size());
  weights.step();
  CHECK((file->text() == text));
  if (!huge_pages_here()) {
    CHECK(mapped_from(path) == before);
    return;
  }
  // Eight at most, fewer where a stretch or a page of the mapping begins.
  const std::size_t after = mapped_from(path);
  CHECK(before - after <= 8 * kHuge);
  CHECK(before - after >= 6 * kHuge);
  for (int i = 0; i < 20; ++i) weights.step();
  CHECK(file->bytes().data() == at);
  CHECK((file->text() == text));
  // Left: five huge pages between, and less than two at each of four ends.
  CHECK(mapped_from(path) >= 5 * kHuge);
  CHECK(mapped_from(path) <= 5 * kHuge + 8 * kHuge);
  // What has no file any more is not let go.
  file->let_go(0, text.size());
  CHECK((file->text() == text));
}

TEST_CASE("weights in place stay in their file where they are few") {
  const ScratchFolder folder;
  const std::string text = pattern(9 * kHuge);
  const auto path = folder.write("weights", text);
  const auto file = std::make_shared<const MappedFile>(path);
  WeightsInPlace weights;
  weights.add(part_of(file, 0, text.size()));
  const std::size_t before = mapped_from(path);
  for (int i = 0; i < 3; ++i) weights.step();
  CHECK(mapped_from(path) == before);
  CHECK((file->text() == text));
}

TEST_CASE("decoding moves the weights of a large model, prompts do not, and logits stay the same") {
  const ScratchFolder folder;
  const auto device = open_device("cpu");
  const Gpt2Config config{
      .vocab_size = 40000, .n_positions = 32, .n_embd = 256, .n_layer = 1, .n_head = 4};
  save_model(*device, folder.path(), config, initialize_parameters(*device, config, 1), DType::f32);
  const auto path = folder / "model.safetensors";
  const LoadedModel moved = load_model(*device, folder.path(), WeightStorage::as_stored);
  const LoadedModel copied = load_model(*device, folder.path(), WeightStorage::f32);
  const std::size_t before = mapped_from(path);
  const auto logits_of = [&](const LoadedModel& model) {
    Gpt2Decoder decoder(*device, config, model.parameters, 1, 32, 3);
    decoder.forward(1, std::vector<std::int32_t>{1, 2, 3});
    if (&model == &moved) CHECK(mapped_from(path) == before);
    std::vector<float> all;
    for (std::int32_t id = 4; id < 10; ++id) {
      const std::vector<float> logits = download(*device, decoder.forward(1, std::vector{id}));
      all.insert(all.end(), logits.begin(), logits.end());
    }
    return all;
  };
  CHECK(logits_of(moved) == logits_of(copied));
  CHECK((mapped_from(path) <= 4 * kHuge) == huge_pages_here());
}

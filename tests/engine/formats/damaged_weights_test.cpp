// Small whole files of weights, cut and with changed bits: each opens or is refused.
#include <random>

#include "base/file.h"
#include "engine/formats/gguf.h"
#include "engine/formats/llmc_checkpoint.h"
#include "engine/formats/torch_checkpoint.h"
#include "tests/engine/formats/checkpoints.h"
#include "tests/fuzz/memory_file.h"
#include "tests/fuzz/sound_source.h"
#include "tests/support/catch.h"

namespace quire::test {
namespace {

struct Whole {
  const char* name;
  std::string bytes;
  TensorSource (*open)(const std::filesystem::path& file);
  std::size_t unused;  ///< bytes at its end that belong to no tensor
};
template <class Source>
TensorSource open(const std::filesystem::path& file) {
  return Source(file);
}

std::vector<Whole> whole_files() {
  const std::string plain = p_dict(
      {{"a", p_tensor({{2, 3}, {3, 1}, 0, 6, "0"})}, {"b", p_tensor({{2, 2}, {1, 2}, 0, 6, "0"})}});
  const std::string six = floats({1, 2, 3, 4, 5, 6});
  return {{"zip", torch_zip(plain, {{"0", six}}), open<TorchCheckpoint>, 0},
          {"row", torch_row(plain, {{"0", six}}), open<TorchCheckpoint>, 0},
          {"GGUF",
           gguf_file(gguf_metadata(4),
                     {{"token_embd.weight", {4, 3}, 0, floats(std::vector<float>(12))},
                      {"blk.0.ffn_up.weight", {32, 1}, 8, std::string(34, '\1')}}),
           open<Gguf>, 30},
          {"llm.c", llmc_file(), open<LlmcCheckpoint>, 0}};
}

/// Whether a file of these bytes opens; Error(bad_data) is the only other end.
bool opens(const Whole& whole, const std::string& bytes) {
  const MemoryFile file(bytes.data(), bytes.size());
  try {
    require_sound(whole.open(file.path()));
    return true;
  } catch (const Error& error) {
    REQUIRE(error.fault() == Fault::bad_data);
    return false;
  }
}

}  // namespace

TEST_CASE("a file of weights that is cut anywhere is refused, unless nothing of it is missing") {
  for (const Whole& whole : whole_files()) {
    INFO(whole.name);
    for (std::size_t size = 0; size <= whole.bytes.size(); ++size) {
      INFO(size << " of " << whole.bytes.size() << " bytes");
      CHECK(opens(whole, whole.bytes.substr(0, size)) ==
            (size + whole.unused >= whole.bytes.size()));
    }
  }
}

TEST_CASE("a file of weights with changed bits opens or is refused") {
  std::mt19937 random(16);
  for (const Whole& whole : whole_files()) {
    INFO(whole.name);
    int opened = 0;
    for (int round = 0; round < 3000; ++round) {
      std::string bytes = whole.bytes;
      for (std::size_t flips = 1 + random() % 3; flips > 0; --flips) {
        bytes[random() % bytes.size()] ^= static_cast<char>(1u << random() % 8);
      }
      opened += opens(whole, bytes) ? 1 : 0;
    }
    CHECK(opened > 0);  // in the weights themselves any bits are right
    CHECK(opened < 3000);
  }
}

}  // namespace quire::test

// 100,000 brackets in every kind of JSON that the program reads: an error,
// not the end of the stack.
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "base/file.h"
#include "tests/cli/letter_model.h"
#include "tests/cli/program.h"
#include "tests/support/catch.h"
#include "tests/support/scratch.h"

using namespace quire;
using namespace quire::test;

namespace {

/// A value of that many levels, whole and sound.
std::string brackets() {
  return std::string(100'000, '[') + std::string(100'000, ']');
}

/// {"NAME": brackets}
std::string object(const std::string& name) {
  return "{\"" + name + "\": " + brackets() + "}";
}

void check_refused(const std::vector<std::string>& arguments, const std::string& file) {
  const ProgramResult result = run_quire(arguments);
  INFO(arguments[0] << " " << file << ": " << result.err.substr(0, 400));
  CHECK(result.signal == 0);
  CHECK(result.exit_code == 3);
  CHECK(contains(result.err, file));
  CHECK(result.err.size() < 2000);  // and it does not print what it read
}

}  // namespace

TEST_CASE("deeply nested JSON in a model's files is refused") {
  for (const char* name : {"config.json", "generation_config.json", "tokenizer.json",
                           "tokenizer_config.json", "special_tokens_map.json"}) {
    const ScratchFolder scratch;
    const std::string model = make_letter_model(scratch);
    for (const std::string& text : {brackets(), object("x")}) {
      write_file(std::filesystem::path(model) / name, text);
      check_refused({"generate", "--model", model, "-p", "a", "-n", "1"}, name);
    }
  }
}

TEST_CASE("deeply nested JSON in weights, indexes and adapters is refused") {
  const ScratchFolder scratch;
  const std::filesystem::path model = make_letter_model(scratch);
  const std::vector<std::string> generate = {"generate", "--model", model.string(), "-p", "a"};
  const std::string header = object("x");
  const std::uint64_t size = header.size();
  write_file(model / "model.safetensors",
             std::string(reinterpret_cast<const char*>(&size), sizeof size) + header);
  check_refused(generate, "model.safetensors");
  std::filesystem::remove(model / "model.safetensors");
  write_file(model / "model.safetensors.index.json", object("weight_map"));
  check_refused(generate, "model.safetensors.index.json");
  const auto adapter = scratch.write("adapter/adapter_config.json", object("rank_pattern"));
  check_refused({"generate", "--model", adapter.parent_path().string(), "-p", "a"},
                "adapter_config.json");
}

TEST_CASE("deeply nested JSON in data, requests and options is refused") {
  const ScratchFolder scratch;
  const std::string model = make_letter_model(scratch);
  const std::string lines = scratch.write("deep.jsonl", object("text") + "\n").string();
  const std::string out = (scratch / "out").string();
  check_refused({"train", "--model", model, "--resize-vocab", "--data", lines, "--output-dir", out},
                "deep.jsonl");
  check_refused({"eval", "--model", model, "--data", lines}, "deep.jsonl");
  check_refused({"data", "prepare", lines, "--tokenizer", model, "--output-dir", out},
                "deep.jsonl");
  check_refused({"tokenizer", "encode", "--tokenizer", model, "--jsonl", lines}, "");
  check_refused({"generate", "--model", model, "--requests", lines}, "deep.jsonl:1");
  const std::string options = scratch.write("options.json", object("seed")).string();
  check_refused({"generate", "--model", model, "-p", "a", "--config-file", options},
                "options.json");
  const std::string toml = scratch.write("options.toml", "seed = " + brackets()).string();
  check_refused({"generate", "--model", model, "-p", "a", "--config-file", toml}, "options.toml:1");
  const std::string sweep = scratch.write("sweep.json", object("train")).string();
  check_refused({"sweep", sweep, "--output-dir", out}, "sweep.json");
}

// quire bench generate on the weights of files: what is loaded, how it is called, what it counts.
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/json.h"
#include "tests/cli/program.h"
#include "tests/support/catch.h"
#include "tests/support/fixtures.h"
#include "tests/support/scratch.h"

using namespace quire;
using namespace quire::test;
using Json = nlohmann::json;
namespace fs = std::filesystem;

namespace {

const fs::path kNarrator = test_data("../../models/narrator");

ProgramResult bench_generate(const fs::path& model, std::vector<std::string> more = {},
                             const ProgramOptions& options = {}) {
  std::vector<std::string> arguments = {
      "bench",           "generate", "--model",      model.string(),
      "--device",        "cpu",      "--batch-size", "1",
      "--prompt-tokens", "4",        "--prefill",    "8",
      "--seconds",       "0.001",    "--json"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return run_quire(arguments, options);
}

Json report_of(const fs::path& model, const std::vector<std::string>& more = {},
               const ProgramOptions& options = {}) {
  const ProgramResult result = bench_generate(model, more, options);
  INFO(result.err);
  REQUIRE(result.exit_code == 0);
  return parse_json<Json>(result.out);
}

double bytes_a_token(const Json& report) {
  const Json& entry = report["benchmarks"][0];
  return std::round(entry["bytes_per_second"].get<double>() * entry["real_time"].get<double>() *
                    1e-9);
}

fs::path converted(const ScratchFolder& folder, const std::string& name, const char* dtype) {
  const fs::path file = folder / name;
  REQUIRE(run_quire({"convert", kNarrator, file, "--dtype", dtype}).exit_code == 0);
  return file;
}

// narrator: 8192 tokens, 7 layers of 256 channels. The tied head and the layers' matrices; what is
// float32 in memory: biases and layernorms; the cache, of 4 + 64/2 positions.
constexpr double kHead = 8192 * 256, kLayers = 7 * 12 * 256 * 256;
constexpr double kVectors = (7 * 13 + 2) * 256 * 4, kCache = 36 * 2 * 7 * 256 * 4;

}  // namespace

TEST_CASE("bench generate loads a model's own weights, and counts the bytes of their types") {
  const ScratchFolder folder;
  const auto check = [](const Json& report, const std::string& name, const std::string& file,
                        const std::string& type, double bytes, const char* products = "float32") {
    INFO(json_text(report));
    CHECK(report["context"]["model"] == name);
    CHECK(report["context"]["weights"] == file);
    CHECK(report["context"]["dtype"] == type);
    CHECK(report["context"]["ceilings_in"] == products);
    std::vector<std::string> names;
    for (const Json& entry : report["benchmarks"]) names.push_back(entry["name"]);
    const std::string tail = "/" + name + "/" + type + "/";
    CHECK(names == std::vector<std::string>{"decode" + tail + "batch:1",
                                            "prefill" + tail + "length:8",
                                            "first_token" + tail + "length:4"});
    CHECK(report["benchmarks"][0]["weight_bytes"] == bytes + kVectors);
    CHECK(bytes_a_token(report) == bytes + kVectors + kCache);
  };
  check(report_of("narrator"), "narrator", "model.safetensors", "bfloat16", (kHead + kLayers) * 2,
        "bfloat16");
  check(report_of(kNarrator, {"--dtype", "float32"}), "narrator", "model.safetensors", "float32",
        (kHead + kLayers) * 4);
  check(report_of(kNarrator, {"--dtype", "int4"}), "narrator", "model.safetensors", "q4_0+q8_0",
        kHead / 32 * 34 + kLayers / 32 * 18);

  // llama.cpp's types: the table of this one is in 4 bits, too.
  const fs::path q4 = converted(folder, "n-q4.gguf", "int4");
  check(report_of(q4), "n-q4.gguf", "n-q4.gguf", "q4_0", (kHead + kLayers) / 32 * 18);
  check(report_of(q4, {"--dtype", "int8"}), "n-q4.gguf", "n-q4.gguf", "q8_0",
        (kHead + kLayers) / 32 * 34);
  const fs::path half = converted(folder, "half", "float16");
  check(report_of(".", {}, {.folder = half}), "half", "model.safetensors", "float16",
        (kHead + kLayers) * 2, "float16");
}

TEST_CASE("bench generate takes sizes alone for random weights") {
  const ScratchFolder folder;
  const std::string config = read_file(kNarrator / "config.json");
  const fs::path file = folder.write("config.json", config);
  for (const fs::path& sizes : {kNarrator / "config.json", file, folder.path()}) {
    CAPTURE(sizes);
    const Json report = report_of(sizes);
    CHECK(report["context"]["weights"] == "random");
    CHECK(report["context"]["dtype"] == "float32");
    CHECK(bytes_a_token(report) == (kHead + kLayers) * 4 + kVectors + kCache);
    CHECK(report_of(sizes, {"--dtype", "bfloat16"})["context"]["dtype"] == "bfloat16");
  }
}

TEST_CASE("bench generate refuses what generate refuses, and types that a file does not have") {
  const ScratchFolder folder;
  const ProgramResult other = bench_generate(kNarrator, {"--dtype", "bfloat16"});
  CHECK(other.exit_code == 2);
  CHECK(other.err ==
        "error: --dtype bfloat16 is for random weights\n"
        "  narrator has weights: quire convert writes them in other types\n"
        "  try: quire bench generate --help\n");

  const ProgramResult longer = bench_generate("narrator", {"--max-new-tokens", "509"});
  CHECK(longer.exit_code == 2);
  CHECK(longer.err.find("error: 4 prompt tokens and 509 new ones do not fit the context\n"
                        "  narrator has 512 positions\n") == 0);

  const ProgramResult none = bench_generate(folder / "none.gguf");
  CHECK(none.exit_code == 3);
  CHECK(none.err.find("error: there is no model '") == 0);

  const fs::path file = converted(folder, "n.gguf", "float16");
  fs::resize_file(file, fs::file_size(file) / 2);
  const auto loaded = run_quire({"generate", "-m", file, "--prompt-ids", "1", "--device", "cpu"});
  const ProgramResult broken = bench_generate(file, {"--quiet"});
  CHECK(broken.exit_code == 3);
  CHECK(broken.err == loaded.err);
}

TEST_CASE("bench generate reads every value of a file, and an adapter on top of it") {
  const ScratchFolder folder;
  // The last two bytes of this file are those of its last tensor: infinity in bfloat16.
  fs::copy(kNarrator, folder / "model");
  {
    std::fstream weights(folder / "model/model.safetensors",
                         std::ios::in | std::ios::out | std::ios::binary);
    weights.seekp(-2, std::ios::end);
    weights.write("\x80\x7f", 2);
  }
  const ProgramResult infinite = bench_generate(folder / "model");
  CHECK(infinite.exit_code == 3);
  CHECK(infinite.err.find("inf") != std::string::npos);

  const std::string text = folder.write("text.txt", std::string(600, 'a') + " the sea was white\n");
  const ProgramResult trained =
      run_quire({"train", "--model", kNarrator, "--data", text, "--output-dir", folder / "adapter",
                 "--lora-r", "2", "--max-steps", "1", "--block-size", "16", "--batch-size", "1",
                 "--device", "cpu"});
  INFO(trained.err);
  REQUIRE(trained.exit_code == 0);
  const Json report = report_of(folder / "adapter", {"--dtype", "int8"});
  CHECK(report["context"]["model"] == "adapter");
  CHECK(report["benchmarks"][0]["name"] == "decode/adapter/q8_0/batch:1");
}

// --dtype int8 and int4, as a user asks for them.
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/json.h"
#include "tests/cli/program.h"
#include "tests/support/catch.h"
#include "tests/support/fixtures.h"
#include "tests/support/scratch.h"
#ifndef QUIRE_TEST_ON_GPU
#include "tests/cli/cuda_workplace.h"
#endif

using namespace quire;
using namespace quire::test;
using Json = nlohmann::json;

namespace {

Json line_of(const std::vector<std::string>& arguments) {
  const ProgramResult result = run_quire(arguments);
  INFO(result.err);
  REQUIRE(result.exit_code == 0);
  return parse_json<Json>(result.out);
}

Json generated(const std::string& model, const std::string& dtype, const std::string& threads) {
  return line_of({"generate", "--model", model, "--dtype", dtype, "--threads", threads, "--device",
                  "cpu", "-p", "It was the", "--max-new-tokens", "24", "--json"});
}

double perplexity(const std::string& model, const std::string& dtype,
                  const std::filesystem::path& text) {
  return line_of({"eval", "--model", model, "--dtype", dtype, "--device", "cpu", "--data",
                  text.string(), "--json"})["perplexity"];
}

const char* const kText =
    "The wind had risen in the night, and in the morning the sea was white to the horizon. He "
    "looked at it for a long time, and said that there would be no boats that day.\n";

}  // namespace

TEST_CASE("generate and eval take int8 and int4, and a converted file has the same blocks") {
  const ScratchFolder folder;
  const auto text = folder.write("text.txt", kText);
  const std::string gguf = (folder / "narrator.gguf").string();
  REQUIRE(run_quire({"convert", "narrator", gguf, "--dtype", "int8"}).exit_code == 0);
  const double exact = perplexity("narrator", "float32", text);
  const double int8 = perplexity("narrator", "int8", text);
  const double int4 = perplexity("narrator", "int4", text);
  CHECK(int8 != exact);
  CHECK(std::abs(int8 / exact - 1) < 0.02);  // of 40 tokens
  CHECK(int4 != int8);
  CHECK(std::abs(int4 / exact - 1) < 0.2);
  // The file's blocks are those that int8 rounds to, and are multiplied as they are.
  CHECK(perplexity(gguf, "auto", text) == int8);
  CHECK(perplexity(gguf, "int8", text) == int8);
  CHECK(perplexity(gguf, "float32", text) != int8);
  const Json of_file = generated(gguf, "auto", "1");
  for (const char* threads : {"1", "2"}) {
    const Json of_folder = generated("narrator", "int8", threads);
    CHECK(of_folder["output_ids"].size() == 24);
    CHECK(of_folder["output_ids"] == of_file["output_ids"]);
  }
  CHECK(generated("narrator", "int4", "1") == generated("narrator", "int4", "2"));
}

TEST_CASE("a GGUF file's types are kept tensor by tensor, and what has no products is told") {
  const ScratchFolder folder;
  const auto text = folder.write("text.txt", kText);
  const std::string gguf = (folder / "x.gguf").string();
  REQUIRE(run_quire({"convert", "narrator", gguf, "--dtype", "q4_k"}).exit_code == 0);
  const std::vector<std::string> command = {"eval", "--model", gguf,          "--device",
                                            "cpu",  "--data",  text.string(), "--json"};
  const ProgramResult result = run_quire(command);
  INFO(result.err);
  CHECK(result.exit_code == 0);
  CHECK(result.err.find("29 tensors become float32, as the device has no products with their type: "
                        "'wte.weight' is Q4_K\n") != std::string::npos);
  std::vector<std::string> smaller = command;
  smaller.insert(smaller.end(), {"--dtype", "int8"});
  CHECK(run_quire(smaller).err.find("become float32") == std::string::npos);
}

TEST_CASE("a model without a row of whole blocks is refused, one with some gets a note") {
  QUIRE_FIXTURE(models, "models");
  const auto run = [&](const char* name) {
    return run_quire({"generate", "--model", (models / name).string(), "--dtype", "int8",
                      "--device", "cpu", "--prompt-ids", "1 2 3", "--json"});
  };
  const ProgramResult none = run("odd-inner");
  CHECK(none.exit_code == 3);
  CHECK(none.err ==
        "error: no matrix of the model can be stored in int8\n"
        "  n_embd is 48 and n_inner 100: blocks of 32 elements do not fill a row\n"
        "  try: --dtype auto\n");
  const ProgramResult some = run("odd-tied");
  INFO(some.err);
  CHECK(some.exit_code == 0);
  CHECK(some.err.find("7 of 9 matrices are not int8, blocks of 32, but stay as they are: "
                      "'transformer.wte.weight', whose rows have 48\n") != std::string::npos);
}

TEST_CASE("bench generate counts the bytes of blocks, doctor what fits in them") {
  const ScratchFolder folder;
  const auto config = folder.write("config.json", R"({"model_type": "gpt2", "vocab_size": 160,
      "n_positions": 16, "n_embd": 32, "n_layer": 1, "n_head": 2})");
  const auto bytes_of = [&](const char* dtype) {
    const Json report =
        line_of({"bench", "generate", "--config", config.string(), "--dtype", dtype, "--batch-size",
                 "1", "--prompt-tokens", "4", "--max-new-tokens", "8", "--prefill", "8",
                 "--seconds", "0.01", "--device", "cpu", "--json"});
    const Json& entry = report["benchmarks"][0];
    CHECK(entry["name"] == std::string("decode/config.json/") + dtype + "/batch:1");
    return entry["bytes_per_second"].get<double>() * entry["real_time"].get<double>() * 1e-9;
  };
  // The head, c_attn, both c_proj and c_fc; biases and layernorms; 8 cached slots of two vectors.
  const double head = 160 * 32, layers = 32 * 96 + 32 * 32 + 2 * 32 * 128;
  const double rest = (96 + 32 + 128 + 32 + 6 * 32) * 4 + 8 * 2 * 32 * 4;
  CHECK(std::round(bytes_of("float32")) == (head + layers) * 4 + rest);
  CHECK(std::round(bytes_of("int8")) == (head + layers) / 32 * 34 + rest);
  CHECK(std::round(bytes_of("int4")) == head / 32 * 34 + layers / 32 * 18 + rest);

  const Json gpt2 = line_of({"doctor", "--device", "cpu", "--json"})["models"][1];
  const double cache = gpt2["generate_bytes_float32"].get<double>() - 4.0 * 124439808;
  const double plain = 4.0 * (1024 * 768 + 12 * (13 * 768) + 2 * 768);   // wpe and vectors
  const double table = 50272 * 768.0, matrices = 12 * 12 * 768.0 * 768;  // whole panels of rows
  CHECK(gpt2["generate_bytes_int8"].get<double>() == (table + matrices) / 32 * 34 + plain + cache);
  CHECK(gpt2["generate_bytes_int4"].get<double>() ==
        table / 32 * 34 + matrices / 32 * 18 + plain + cache);
}

#ifndef QUIRE_TEST_ON_GPU
TEST_CASE("a card refuses int8 with the reason, and takes a GGUF's blocks as float32") {
  const ProgramResult result = CudaWorkplace::run(
      {"generate", "--model", "narrator", "--dtype", "int8", "--device", "cuda", "-p", "the"});
  INFO(result.err);
  CHECK(result.exit_code == 5);
  CHECK(result.err.find("error: this device does not compute with weights in int8\n") !=
        std::string::npos);
  CHECK(result.err.find("\n  try: --device cpu, or --dtype auto\n") != std::string::npos);
}
#endif

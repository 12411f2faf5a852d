// quire bench kernels: its entries, its JSON and its picture.
#include <algorithm>
#include <csignal>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/json.h"
#include "kernels/open_device.h"
#include "tests/cli/program.h"
#include "tests/support/bf16.h"
#include "tests/support/catch.h"
#include "tests/support/scratch.h"
#include "tests/support/xml.h"

using quire::test::ProgramOptions;
using quire::test::ProgramResult;
using quire::test::run_quire;
using quire::test::ScratchFolder;

namespace {

// A model of one layer and 100 tokens, small enough that every op is over at once.
constexpr const char* kSmallConfig =
    R"({"model_type": "gpt2", "vocab_size": 100, "n_positions": 16, "n_embd": 8, "n_layer": 1,
        "n_head": 2, "bos_token_id": 0, "eos_token_id": 0})";

ProgramResult bench_kernels(const ScratchFolder& folder, std::vector<std::string> more,
                            const ProgramOptions& options = {}) {
  const std::filesystem::path config = folder.write("config.json", kSmallConfig);
  std::vector<std::string> arguments = {"bench",        "kernels", "--config",  config.string(),
                                        "--device",     "cpu",     "--threads", "1",
                                        "--batch-size", "2",       "--seconds", "0.001"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return run_quire(arguments, options);
}

}  // namespace

TEST_CASE("bench kernels times what was asked for, cold and warm, as JSON and as a picture") {
  const ScratchFolder folder;
  const auto picture = folder / "roofline.svg", file = folder / "out.json";
  const ProgramResult result =
      bench_kernels(folder, {"--ops", "layernorm_f,layernorm_b", "argmax", "--svg",
                             picture.string(), "--output", file.string(), "--json"});
  CAPTURE(result.err);
  REQUIRE(result.exit_code == 0);
  CHECK(result.out == quire::read_file(file));

  const nlohmann::json report = quire::parse_json<nlohmann::json>(result.out);
  CHECK(report["context"]["batch"] == "2");
  CHECK(report["context"]["length"] == "16");
  CHECK(report["context"]["dtype"] == "float32");
  std::vector<std::string> names;
  for (const nlohmann::json& entry : report["benchmarks"]) {
    CAPTURE(quire::json_text(entry));
    names.push_back(entry["name"]);
    CHECK(entry["run_name"] == entry["name"]);
    CHECK(entry["run_type"] == "iteration");
    CHECK(entry["time_unit"] == "ns");
    CHECK(entry["iterations"].get<double>() >= 3 * entry["calls_per_sample"].get<double>());
    const double median = entry["real_time"];
    CHECK(median > 0);
    CHECK(entry["fastest"].get<double>() <= median);
    CHECK(entry["slowest"].get<double>() >= median);
    const double memory = entry["percent_of_bandwidth"], compute = entry["percent_of_flops"];
    CHECK(entry["percent_of_ceiling"].get<double>() ==
          Approx(std::max(memory, compute)).epsilon(1e-6));
    CHECK(entry.contains("percent_of_gemm") == (compute > memory));
    CHECK(entry["bytes_per_second"].get<double>() ==
          Approx(entry["bytes"].get<double>() / median * 1e9).epsilon(1e-6));
  }
  CHECK(names == std::vector<std::string>{"layernorm_forward/warm", "layernorm_forward/cold",
                                          "layernorm_backward/warm", "layernorm_backward/cold",
                                          "argmax_tokens/warm", "argmax_tokens/cold"});
  // x and out of [32, 8] floats, mean and rstd of 32 rows.
  CHECK(report["benchmarks"][0]["bytes"] == 2 * 4 * 32 * 8 + 8 * 32);

  const std::string svg = quire::read_file(picture);
  CHECK(quire::test::xml_fault(svg) == "");
  for (const std::string& name : names) CHECK(svg.find(">" + name + "<") != std::string::npos);
}

TEST_CASE("bench does not write over a file unasked, and says at once where it cannot") {
  const ScratchFolder folder;
  const std::string file = folder.write("out.json", "old"), picture = folder.write("a.svg", "old");
  const auto refused = [&](const std::vector<std::string>& more, int exit_code,
                           const std::string& message) {
    const ProgramResult result = bench_kernels(folder, more);
    CHECK(result.exit_code == exit_code);
    CHECK(result.err == message);  // nothing was measured
  };
  const std::string next = " is there already\n  try: another --output, or --overwrite\n";
  refused({"-o", file}, 2, "error: " + file + next);
  refused({"--svg", picture}, 2, "error: " + picture + next);
  refused({"-o", folder.path()}, 2,
          "error: " + folder.path().string() +
              " is a folder, not a file to write\n  try: --output " + (folder / "FILE").string() +
              "\n");
  refused({"-o", file + "/below.json", "--overwrite"}, 3,
          "error: cannot create the folder " + file +
              "\n  a file has that name\n  try: another --output\n");
  CHECK(quire::read_file(file) == "old");
  CHECK(bench_kernels(folder, {"--ops", "layernorm_f", "-o", file, "--overwrite"}).exit_code == 0);
  CHECK(quire::read_file(file).starts_with("{"));
}

TEST_CASE("bench kernels that is killed leaves a whole file of what it had measured") {
  const ScratchFolder folder;
  const auto config = folder.write("config.json", kSmallConfig);
  const auto file = folder / "out.json";
  quire::test::Program program({"bench", "kernels", "--config", config.string(), "--device", "cpu",
                                "--seconds", "0.25", "--output", file.string()});
  REQUIRE(program.wait_for("embedding_backward"));  // the second op of many
  program.send(SIGKILL);
  CHECK(program.wait().signal == SIGKILL);
  const nlohmann::json report = quire::parse_json<nlohmann::json>(quire::read_file(file));
  CHECK(report["context"]["dtype"] == "float32");
  REQUIRE(report["benchmarks"].size() >= 2);
  CHECK(report["benchmarks"][0]["name"] == "embedding_forward/warm");
  CHECK(report["benchmarks"][1]["name"] == "embedding_forward/cold");
}

TEST_CASE("bench kernels runs every op of a model and checks what it computes") {
  const ScratchFolder folder;
  const ProgramResult result = bench_kernels(folder, {});
  CAPTURE(result.err);
  REQUIRE(result.exit_code == 0);
  for (const char* name :
       {"embedding_forward/cold", "embedding_backward/warm", "residual_layernorm_forward/cold",
        "layernorm_matmul/qkv/warm", "matmul_forward/head/cold", "matmul_backward_weight/fc/warm",
        "matmul_backward_input/proj/cold", "activation_backward/cold", "dropout/warm",
        "attention_forward/cold", "attention_backward/cold", "attention_cached/length:16/warm",
        "cross_entropy_backward/cold", "adamw/warm", "squared_norm/warm", "repetition_penalty/warm",
        "warp_logits/top_p/cold", "draw_tokens/cold"}) {
    CAPTURE(name);
    CHECK(result.out.find(std::string("\n  ") + name + " ") != std::string::npos);
  }
  CHECK(result.out.find("of memory") != std::string::npos);
  CHECK(result.out.find("of ceiling") != std::string::npos);
}

TEST_CASE("bench kernels refuses what it does not know, with what was meant") {
  const ScratchFolder folder;
  const ProgramResult unknown = bench_kernels(folder, {"--ops", "argmax", "layernorm_forwrad"});
  CHECK(unknown.exit_code == 2);
  CHECK(unknown.err ==
        "error: no kernel begins with 'layernorm_forwrad'\n"
        "  did you mean layernorm_forward?\n"
        "  try: quire bench kernels --ops layernorm_forward\n");
  CHECK(unknown.out.empty());

  const ProgramResult beginning = bench_kernels(folder, {"--ops", "layernrm"});
  CHECK(beginning.exit_code == 2);
  CHECK(beginning.err.find("did you mean layernorm?") != std::string::npos);

  const ProgramResult strange = bench_kernels(folder, {"--ops", "zzz"});
  CHECK(strange.exit_code == 2);
  CHECK(strange.err.find("kernels: embedding_forward, ") != std::string::npos);

  const ProgramResult longer = bench_kernels(folder, {"--block-size", "17"});
  CHECK(longer.exit_code == 2);
  CHECK(longer.err.find("--block-size 17 is beyond the model's context") != std::string::npos);
}

TEST_CASE("bench kernels says which type a device computes in") {
  const ScratchFolder folder;
  for (const std::string type : {"bfloat16", "float16"}) {
    const ProgramResult result =
        bench_kernels(folder, {"--dtype", type}, {.environment = {{"QUIRE_SIMD", "scalar"}}});
    CHECK(result.exit_code == 2);
    CHECK(result.err.find("error: the device computes in float32, not in " + type + "\n  CPU") ==
          0);
    CHECK(result.err.find("try: --dtype float32\n") != std::string::npos);
  }
}

TEST_CASE("bench on a CPU in bfloat16 times products, and training steps with them") {
  QUIRE_NEEDS_BF16(*quire::open_device("cpu"));
  const ScratchFolder folder;
  const ProgramResult result = bench_kernels(folder, {"--dtype", "bfloat16", "--json"});
  CAPTURE(result.err);
  REQUIRE(result.exit_code == 0);
  const nlohmann::json report = quire::parse_json<nlohmann::json>(result.out);
  CHECK(report["context"]["dtype"] == "bfloat16");
  CHECK(report["benchmarks"].size() >= 10);
  for (const nlohmann::json& entry : report["benchmarks"]) {
    CHECK(entry["name"].get<std::string>().find("matmul_") == 0);
  }
  const ProgramResult other =
      bench_kernels(folder, {"--dtype", "bfloat16", "--ops", "layernorm_forward"});
  CHECK(other.exit_code == 2);
  CHECK(other.err.find("no kernel begins with 'layernorm_forward'") != std::string::npos);

  const std::vector<std::string> step = {"bench",        "train", "--config",     "tiny",
                                         "--batch-size", "1",     "--block-size", "16",
                                         "--seconds",    "0.01",  "--bf16",       "--json"};
  const ProgramResult train = run_quire(step);
  CAPTURE(train.err);
  REQUIRE(train.exit_code == 0);
  CHECK(quire::parse_json<nlohmann::json>(train.out)["benchmarks"].size() == 1);
  const ProgramResult refused = run_quire(step, {.environment = {{"QUIRE_SIMD", "scalar"}}});
  CHECK(refused.exit_code == 5);
  CHECK(refused.err.find("error: this device does not compute in bfloat16\n") == 0);
}

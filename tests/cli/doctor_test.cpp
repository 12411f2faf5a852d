// quire doctor: what it says, and its JSON.
#include <nlohmann/json.hpp>

#include "base/json.h"
#include "tests/cli/program.h"
#include "tests/support/catch.h"

using quire::test::ProgramResult;
using quire::test::run_quire;

TEST_CASE("doctor names device, memory, CUDA and what fits") {
  const ProgramResult result = run_quire({"doctor", "--threads", "1"});
  CHECK(result.exit_code == 0);
  CHECK(result.err.empty());
  for (const char* part : {"device      CPU", "1 thread", "memory", "CUDA        not used: ",
                           "\n  gpt2 ", "\n  gpt2-xl ", "124M", " LoRA "}) {
    CAPTURE(part);
    CHECK(result.out.find(part) != std::string::npos);
  }
  CHECK(result.out.find('\x1b') == std::string::npos);
}

TEST_CASE("doctor --json is one object on one line") {
  const ProgramResult result = run_quire({"doctor", "--json"});
  REQUIRE(result.exit_code == 0);
  CHECK(result.out.find('\n') == result.out.size() - 1);
  const nlohmann::json report = quire::parse_json<nlohmann::json>(result.out);
  CHECK(report["cores"].get<int>() >= 1);
  CHECK(report["memory_total"].get<double>() >= report["memory_available"].get<double>());
  CHECK(report["read_bytes_per_second"].get<double>() > 0);
  CHECK(report["matmul_flops_per_second"].get<double>() > 0);
  REQUIRE(report["models"].size() == 5);
  CHECK(report["models"][1]["model"] == "gpt2");
  CHECK(report["models"][1]["parameters"] == 124439808);
  // Weights, gradients and two moments in float32 are the least that training holds.
  CHECK(report["models"][1]["train_bytes"].get<double>() > 16.0 * 124439808);
  CHECK(report["models"][1]["lora_bytes"].get<double>() > 4.0 * 124439808);
  CHECK(report["models"][1]["lora_bytes"].get<double>() <
        report["models"][1]["train_bytes"].get<double>() - 12.0 * 124439808 + 10e6);
}

// quire doctor: what it says, and its JSON.
#include <nlohmann/json.hpp>

#include "base/json.h"
#include "kernels/open_device.h"
#include "tests/cli/program.h"
#include "tests/support/catch.h"

using quire::test::contains;
using quire::test::ProgramOptions;
using quire::test::ProgramResult;
using quire::test::run_quire;

TEST_CASE("doctor names device, memory, CUDA and what fits") {
  const ProgramResult result = run_quire({"doctor", "--threads", "1"});
  CHECK(result.exit_code == 0);
  CHECK(result.err.empty());
  for (const char* part : {"device      CPU", "1 thread", "memory", "CUDA        not used: ",
                           "processes   ", "\n  gpt2 ", "\n  gpt2-xl ", "124M", " LoRA "}) {
    CAPTURE(part);
    CHECK(result.out.find(part) != std::string::npos);
  }
  CHECK(result.out.find('\x1b') == std::string::npos);
}

TEST_CASE("doctor says whether products can be in bfloat16, and why not") {
  for (const char* level : {"", "scalar"}) {
    const ProgramOptions options = {.environment = {{"QUIRE_SIMD", level}}};
    const ProgramResult text = run_quire({"doctor", "--threads", "1", "--device", "cpu"}, options);
    const ProgramResult json = run_quire({"doctor", "--device", "cpu", "--json"}, options);
    INFO(level << text.out << json.out);
    const double flops =
        quire::parse_json<nlohmann::json>(json.out)["bf16_matmul_flops_per_second"];
    if (*level == '\0' && quire::open_device("cpu")->why_not_in_bf16().empty()) {
      CHECK(contains(text.out, " GFLOP/s in matrix products: train --bf16\n"));
      CHECK(flops > 0);
    } else {
      CHECK(contains(text.out, "  bfloat16    not used: "));
      CHECK(flops == 0);
    }
  }
}

TEST_CASE("doctor says whether AMX multiplies, and why not") {
  const std::string why = quire::open_device("cpu")->why_no_amx();
  const std::string here = why.empty() ? "used" : "not used: " + why;
  for (const auto& [level, about] : {std::pair<const char*, std::string>{"", here},
                                     {"scalar", "not used: QUIRE_SIMD=scalar leaves it out"}}) {
    const ProgramOptions options = {.environment = {{"QUIRE_SIMD", level}}};
    const ProgramResult text = run_quire({"doctor", "--threads", "1", "--device", "cpu"}, options);
    const ProgramResult json = run_quire({"doctor", "--device", "cpu", "--json"}, options);
    CHECK(contains(text.out, "\n  AMX         " + about + "\n"));
    CHECK(quire::parse_json<nlohmann::json>(json.out)["amx"] == about);
  }
}

TEST_CASE("QUIRE_SIMD=amx is refused where a processor has none, with the levels that there are") {
  const std::string why = quire::open_device("cpu")->why_no_amx();
  if (why.empty() || contains(why, "asks for it")) {
    WARN("SKIPPED: this processor has AMX");
    return;
  }
  const ProgramResult refused = run_quire({"doctor"}, {.environment = {{"QUIRE_SIMD", "amx"}}});
  CHECK(refused.exit_code == 2);
  CHECK(contains(refused.err, "QUIRE_SIMD names no level of this processor: 'amx'"));
  CHECK(contains(refused.err, "levels here: "));
  CHECK_FALSE(contains(refused.err, "levels here: amx"));
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
  // An adapter has neither gradients nor moments of the model, but what lies among the gradients has memory of its own.
  CHECK(report["models"][1]["lora_bytes"].get<double>() <
        report["models"][1]["train_bytes"].get<double>() - 8.0 * 124439808 + 10e6);
}

// quire doctor --verify on a pretended card: right, with a wrong kernel, and with one that fails.
#ifndef QUIRE_TEST_ON_GPU
#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/json.h"
#include "tests/cli/cuda_workplace.h"
#include "tests/support/cache.h"
#include "tests/support/catch.h"

using namespace quire;
using namespace quire::test;
using Json = nlohmann::json;

namespace {

std::string doctor() {
  const ProgramResult result = CudaWorkplace::run({"doctor", "--device", "cuda"});
  CHECK(result.exit_code == 0);
  return result.out;
}

}  // namespace

TEST_CASE(
    "a card that agrees with the CPU is verified until it fails, and a wrong kernel is found") {
  const CacheFolder cache;
  CHECK(
      contains(doctor(),
               "  verified    no, so kernels of one chip are not used: 'quire doctor --verify' has "
               "not passed with this build on this card and driver\n"));
  const ProgramResult right = CudaWorkplace::run({"doctor", "--verify", "--device", "cuda"});
  INFO(right.out << right.err);
  CHECK(right.exit_code == 0);
  CHECK(contains(right.out, "CUDA, CUDA on the host, compared with the CPU\n"));
  for (const char* what :
       {"\n  layernorm_backward ", "\n  attention_cached ", "\n  adamw ", "\n  argmax_tokens ",
        "\n  model: gradients ", "\n  model: greedy tokens "}) {
    CHECK(contains(right.out, what));
  }
  CHECK_FALSE(contains(right.out, "WRONG"));
  CHECK(contains(doctor(), "  verified    with this build, on this card and driver\n"));

  // A card that fails on the way is not verified any more.
  const ProgramResult failed =
      CudaWorkplace::run({"doctor", "--verify", "--device", "cuda"}, "fail_launch=20");
  INFO(failed.err);
  CHECK(failed.exit_code == 5);
  CHECK(contains(failed.err, "unspecified launch failure"));
  CHECK(contains(doctor(), "  verified    no, "));

  const ProgramResult wrong = CudaWorkplace::run(
      {"doctor", "--verify", "--device", "cuda", "--json"}, "break_kernel=layernorm_backward_rows");
  INFO(wrong.err);
  CHECK(wrong.exit_code == 7);
  CHECK(wrong.err.starts_with("error: "));
  CHECK(contains(wrong.err, " comparisons disagree on CUDA, CUDA on the host\n"));
  CHECK(contains(wrong.err, "\n  layernorm_backward: float32, "));
  const Json report = parse_json<Json>(wrong.out);
  CHECK(report["agrees"] == false);
  for (const Json& finding : report["findings"]) {
    const std::string what = finding["compared"];
    INFO(what);
    CHECK(finding["cases"].get<int>() >= 1);
    // The op itself, and the gradients that come through it.
    CHECK(finding["agrees"] == (what != "layernorm_backward" && what != "model: gradients"));
  }
}

TEST_CASE("where nothing is to be verified doctor says so") {
  const ProgramResult result = run_quire({"doctor", "--verify", "--device", "cpu"});
  CHECK(result.exit_code == 5);
  CHECK(result.err.starts_with(
      "error: there is nothing to verify: other devices are compared with CPU"));
}
#endif

// The program with --device cuda, beside itself with --device cpu.
#include <cmath>
#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>
#include <sstream>

#include "base/json.h"
#include "tests/cli/cuda_workplace.h"
#include "tests/cli/letter_model.h"
#include "tests/support/catch.h"

using namespace quire;
using namespace quire::test;
namespace fs = std::filesystem;
using Json = nlohmann::json;

namespace {

constexpr double kEps32 = std::numeric_limits<float>::epsilon() / 2;
constexpr double kEps16 = 0x1p-8;  // bfloat16's

/// Training losses of a run, a step each, then its validation losses.
std::vector<double> losses(const std::string& log) {
  std::vector<double> training, validation;
  for (const Json& line : json_lines(log)) {
    if (line.contains("loss")) training.push_back(line["loss"]);
    if (line.contains("eval_loss")) validation.push_back(line["eval_loss"]);
  }
  training.insert(training.end(), validation.begin(), validation.end());
  return training;
}

/// Two runs of the same steps. A loss of sums over at most `terms` is off by terms·eps of itself. A
/// step moves each of P parameters by lr at most, off by terms·eps of that where its gradient is,
/// and gradients of norm 1 change the loss by lr·sqrt(P) at most.
void check_losses(const std::vector<double>& got, const std::vector<double>& want, double eps,
                  double terms) {
  constexpr double kSteps = 5, kRate = 1e-2, kParameters = 5000;
  REQUIRE(got.size() == want.size());
  for (std::size_t i = 0; i < got.size(); ++i) {
    INFO("loss " << i << ": " << got[i] << " and " << want[i]);
    CHECK(std::abs(got[i] - want[i]) <=
          terms * eps * (want[i] + kSteps * kRate * std::sqrt(kParameters)));
  }
}

/// What generate gives as JSON, a line a text, without what rounding may change.
std::vector<Json> texts(const std::string& model, const std::string& device,
                        std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), {"generate", "--model", model, "--device", device, "--json"});
  const ProgramResult result = CudaWorkplace::run(arguments);
  INFO(result.err);
  REQUIRE(result.exit_code == 0);
  std::vector<Json> lines = json_lines(result.out);
  for (Json& line : lines) {
    line.erase("logprobs");
    line.erase("score");
  }
  return lines;
}

}  // namespace

TEST_CASE("training on CUDA follows the CPU's losses, from scratch and on from a model") {
  const CudaWorkplace work;
  const std::vector<std::string> steps = {"--max-steps", "5", "--eval-steps", "2"};
  for (const std::string device : {"cpu", "cuda"}) {
    std::vector<std::string> options = steps;
    options.insert(options.end(), {"--device", device, "--gradient-accumulation-steps", "2"});
    work.train(device, options);
    options.insert(options.end(), {"--model", work.folder / "cpu", "--dropout", "0"});
    const ProgramResult on = CudaWorkplace::run(work.train_command("on-" + device, options));
    INFO(on.err);
    REQUIRE(on.exit_code == 0);
  }
  for (const std::string run : {"", "on-"}) {
    const std::vector<double> want = losses(work.content(run + "cpu/log.jsonl"));
    CHECK(want.size() == 9);  // five steps, and validation at 0, 2, 4 and 5
    check_losses(losses(work.content(run + "cuda/log.jsonl")), want, kEps32, 270);
  }
}

TEST_CASE("training on CUDA in bfloat16 stays near to training in float") {
  const CudaWorkplace work;
  const std::vector<std::string> steps = {"--max-steps", "5", "--device", "cuda"};
  work.train("float", steps);
  std::vector<std::string> bf16 = steps;
  bf16.emplace_back("--bf16");
  work.train("bf16", bf16);
  const std::vector<double> want = losses(work.content("float/log.jsonl"));
  const std::vector<double> got = losses(work.content("bf16/log.jsonl"));
  check_losses(got, want, kEps16, 1);
  CHECK(got != want);
}

TEST_CASE(
    "a run on CUDA that goes on from a checkpoint ends in the bytes of one that never stopped") {
  const CudaWorkplace work;
  for (const std::string type : {"--bf16", "--no-bf16"}) {
    const std::vector<std::string> options = {"--max-steps", "4", "--save-steps", "2", "--device",
                                              "cuda",        type};
    const std::string run = "run" + type;
    work.train(run, options);
    std::vector<std::string> before;
    const std::vector<std::string> files = {
        run + "/model.safetensors", run + "/checkpoint-4/model.safetensors",
        run + "/checkpoint-4/optimizer.safetensors", run + "/checkpoint-4/trainer_state.json"};
    for (const std::string& name : files) before.push_back(work.content(name));
    fs::remove_all(work.folder.path() / run / "checkpoint-4");
    fs::remove(work.folder.path() / run / "model.safetensors");

    std::vector<std::string> resumed = options;
    resumed.insert(resumed.end(), {"--resume-from-checkpoint", "latest"});
    work.train(run, resumed);
    for (std::size_t i = 0; i < files.size(); ++i) {
      INFO(files[i]);
      CHECK(work.content(files[i]) == before[i]);
    }
  }
}

TEST_CASE("eval on CUDA gives the CPU's perplexity") {
  const ScratchFolder scratch;
  const std::string model = make_letter_model(scratch);
  const std::string text =
      scratch.write("text.txt", "the cat and the dog went over the hill and came back.");
  std::vector<double> loss;
  for (const std::string device : {"cpu", "cuda"}) {
    const ProgramResult result = CudaWorkplace::run(
        {"eval", "--model", model, "--data", text, "--device", device, "--json"});
    INFO(result.err);
    REQUIRE(result.exit_code == 0);
    loss.push_back(parse_json<Json>(result.out)["loss"]);
  }
  // Sums over 40 tokens of a vocabulary at most, in each of two layers and the head.
  CHECK(std::abs(loss[1] - loss[0]) <= 3 * 40 * kEps32 * loss[0]);
}

TEST_CASE(
    "generate on CUDA takes the CPU's tokens, greedily and drawn, for prompts of any length") {
  const ScratchFolder scratch;
  const std::string model = make_letter_model(scratch);
  for (const std::vector<std::string>& options : std::vector<std::vector<std::string>>{
           {"-p", "the", "-n", "8"},
           {"-p", "a", "-p", "the cat and a", "-p", "dog", "-n", "6", "--ignore-eos"},
           {"-p", "the", "-p", "a dog", "-n", "8", "--do-sample", "--seed", "3",
            "--num-return-sequences", "3"},
           {"-p", "the", "-p", "a dog", "-n", "8", "--do-sample", "--top-k", "9", "--top-p", "0.9",
            "--min-p", "0.01", "--temperature", "1.3", "--repetition-penalty", "1.2"}}) {
    const std::vector<Json> want = texts(model, "cpu", options);
    CHECK(texts(model, "cuda", options) == want);
    CHECK_FALSE(want[0]["output_ids"].empty());
  }
  // As text too, the prompt before it.
  const ProgramResult cpu =
      CudaWorkplace::run({"generate", "--model", model, "-p", "the", "--device", "cpu"});
  const ProgramResult cuda =
      CudaWorkplace::run({"generate", "--model", model, "-p", "the", "--device", "cuda"});
  CHECK(cpu.out.starts_with("the"));
  CHECK(cuda.out == cpu.out);
}

TEST_CASE("the demo runs on CUDA") {
  const CudaWorkplace work;
  work.train("model", {"--max-steps", "1", "--device", "cpu"});
  const ProgramResult result =
      CudaWorkplace::run({"demo", "--model", work.folder / "model", "--device", "cuda",
                          "--max-steps", "2", "--output-dir", work.folder / "demo"});
  INFO(result.err);
  CHECK(result.exit_code == 0);
  CHECK(contains(result.err, "  device  CUDA, "));
  CHECK(contains(result.out, "After\n  The wind"));
  CHECK(fs::exists(work.folder / "demo/model.safetensors"));
}

TEST_CASE("where CUDA can be used, auto takes it and doctor says so") {
  const ScratchFolder scratch;
  const std::string model = make_letter_model(scratch);
  const ProgramResult automatic = CudaWorkplace::run({"doctor"});
  CHECK(automatic.exit_code == 0);
  CHECK(automatic.err.empty());
  CHECK(contains(automatic.out, "  device      CUDA, "));
  CHECK(contains(automatic.out, "  CUDA        used\n"));
  CHECK(contains(automatic.out, "  card        "));
  const ProgramResult cpu = CudaWorkplace::run({"doctor", "--device", "cpu"});
  CHECK(contains(cpu.out, "  device      CPU, "));
  CHECK(contains(cpu.out, "  CUDA        can be used\n"));
  const ProgramResult second = CudaWorkplace::run({"doctor", "--device", "cuda:7"});
  CHECK(second.exit_code == 5);
  CHECK(contains(second.err, "error: CUDA cannot be used: there is no card 7, the last one is "));
  CHECK(contains(second.err, "\n  try: --device cuda\n"));
}

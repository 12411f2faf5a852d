// What the program says where CUDA cannot be used, where a card's memory is too small, and where a
// card fails in the middle of a run. The machines are pretended: see tests/cuda_on_host/runtime.h.
#ifndef QUIRE_TEST_ON_GPU
#include <filesystem>

#include "tests/cli/cuda_workplace.h"
#include "tests/cli/letter_model.h"
#include "tests/support/catch.h"

using namespace quire;
using namespace quire::test;
namespace fs = std::filesystem;

namespace {

void check_says(const ProgramResult& result, int exit_code, const std::vector<std::string>& parts) {
  INFO(result.err);
  CHECK(result.exit_code == exit_code);
  for (const std::string& part : parts) {
    INFO(part);
    CHECK(result.err.find(part) != std::string::npos);
  }
}

struct Refusal {
  std::string machine, reason;
};
const std::vector<Refusal> kRefusals = {
    {"driver=0", "no NVIDIA driver is loaded"},
    {"driver=11080", "the driver is for CUDA 11.8, this build needs 13.0"},
    {"devices=0", "CUDA says: no CUDA-capable device is detected"},
    {"compute=7.5",
     "the card, CUDA on the host, has compute capability 7.5, and the kernels need 8.0"}};

/// What follows `words` in an error's "try:" line, up to the next space.
std::string advised(const ProgramResult& result, const std::string& words) {
  const std::size_t at = result.err.find(words, result.err.find("\n  try: "));
  REQUIRE(at != std::string::npos);
  const std::size_t begin = at + words.size();
  return result.err.substr(begin, result.err.find_first_of(" \n", begin) - begin);
}

}  // namespace

TEST_CASE("a card that cannot be used is refused with the reason, and auto goes on without it") {
  const ScratchFolder scratch;
  const std::string model = make_letter_model(scratch);
  for (const auto& [machine, reason] : kRefusals) {
    const std::vector<std::string> command = {"generate", "--model", model,
                                              "-p",       "the",     "--device"};
    std::vector<std::string> cuda = command, automatic = command;
    cuda.emplace_back("cuda");
    automatic.emplace_back("auto");
    check_says(CudaWorkplace::run(cuda, machine), 5,
               {"error: CUDA cannot be used: " + reason + "\n  try: --device cpu\n"});
    const ProgramResult goes_on = CudaWorkplace::run(automatic, machine);
    check_says(goes_on, 0, {"on the CPU, as CUDA cannot be used: " + reason + "\n"});
    CHECK(goes_on.out.starts_with("the"));
  }
  const ProgramResult doctor =
      CudaWorkplace::run({"doctor", "--device", "cpu"}, kRefusals[1].machine);
  CHECK(doctor.out.find("  CUDA        not used: " + kRefusals[1].reason + "\n") !=
        std::string::npos);
}

TEST_CASE("training that a card has no room for is refused before it begins, with what would fit") {
  const CudaWorkplace work;
  // 14 MB are what measuring the speed of products takes.
  const std::string machine = "memory=20M";
  const std::vector<std::string> fresh = {"--config", work.config,   "--device",
                                          "cuda",     "--max-steps", "1"};
  std::vector<std::string> large = fresh;
  large.insert(large.end(), {"--batch-size", "4096"});
  const ProgramResult refused = CudaWorkplace::run(work.train_command("out", large), machine);
  check_says(refused, 4,
             {"error: training needs ", " of memory, 20.3 MB are available\n",
              "\n  the largest parts: ", "\n  CUDA, CUDA on the host: 21.0 MB of memory, 21.0 MB",
              " --gradient-accumulation-steps ", "(the same 4096 rows a step)"});
  CHECK_FALSE(fs::exists(work.folder / "out/log.jsonl"));

  const std::string batch = advised(refused, "--per-device-train-batch-size ");
  CHECK(std::stoi(batch) > 100);
  std::vector<std::string> advice = fresh;
  advice.insert(advice.end(), {"--batch-size", batch});
  const ProgramResult fits = CudaWorkplace::run(work.train_command("out", advice), machine);
  INFO(fits.err);
  CHECK(fits.exit_code == 0);
}

TEST_CASE("memory that other processes hold is not planned with") {
  const CudaWorkplace work;
  const ProgramResult refused =
      CudaWorkplace::run(work.train_command("out", {"--config", work.config, "--device", "cuda",
                                                    "--max-steps", "1", "--batch-size", "4096"}),
                         "memory=40M,taken=20M");
  check_says(refused, 4,
             {"error: training needs ", " of memory, 20.3 MB are available\n",
              "\n  CUDA, CUDA on the host: 41.9 MB of memory, 21.0 MB"});
}

TEST_CASE("texts that a card has no room for are refused before the first, with what would fit") {
  const ScratchFolder scratch;
  const std::string model = make_letter_model(scratch);
  // Room for the weights, 40 kB, and little more.
  const std::string machine = "memory=80000";
  std::vector<std::string> command = {"generate", "--model", model,          "-p", "the",
                                      "--device", "cuda",    "--batch-size", "64"};
  command.insert(command.end(), {"--num-return-sequences", "32", "--do-sample", "--json"});
  const ProgramResult refused = CudaWorkplace::run(command, machine);
  check_says(refused, 4,
             {"error: generating 32 texts of up to 16 tokens together needs ",
              "the largest parts: cached keys and values ", "CUDA, CUDA on the host: 80.0 kB",
              " (the same texts)"});
  CHECK(refused.out.empty());
  command[8] = advised(refused, "--batch-size ");
  const ProgramResult fits = CudaWorkplace::run(command, machine);
  INFO(fits.err);
  CHECK(fits.exit_code == 0);
  CHECK(fits.out == CudaWorkplace::run(command).out);

  const std::string text = scratch.write("text.txt", std::string(120, 'a'));
  std::vector<std::string> eval = {"eval",     "--model", model,          "--data", text,
                                   "--device", "cuda",    "--batch-size", "50",     "--stride",
                                   "2",        "--json",  "--quiet"};
  const ProgramResult no_room = CudaWorkplace::run(eval, machine);
  check_says(no_room, 4,
             {"error: scoring 50 windows of 16 tokens together needs ",
              "the largest parts: ", "CUDA, CUDA on the host: 80.0 kB", " (the same result)"});
  eval[8] = advised(no_room, "--batch-size ");
  const ProgramResult scored = CudaWorkplace::run(eval, machine);
  INFO(scored.err);
  CHECK(scored.exit_code == 0);
  CHECK(scored.out == CudaWorkplace::run(eval).out);
}

TEST_CASE("weights that a card has no room for are refused before they are read") {
  const ScratchFolder scratch;
  const std::string model = make_letter_model(scratch);
  check_says(CudaWorkplace::run({"generate", "--model", model, "-p", "the", "--device", "cuda"},
                                "memory=9000"),
             4,
             {"error: the weights need ", " kB of memory, 9.00 kB are free\n",
              "they are those of " + model, "CUDA, CUDA on the host: ", "try: --device cpu"});
}

TEST_CASE("a card that fails in the middle of a run leaves checkpoints to go on from") {
  const CudaWorkplace work;
  const std::vector<std::string> options = {"--config", work.config, "--max-steps",  "4",
                                            "--device", "cuda",      "--save-steps", "1"};
  work.train("straight", {"--max-steps", "4", "--device", "cuda", "--save-steps", "1"});
  const std::vector<std::string> command = work.train_command("cut", options);
  const ProgramResult failed = CudaWorkplace::run(command, "fail_launch=100");
  check_says(failed, 5,
             {"error: ", ": cudaStreamSynchronize(stream_) failed: unspecified launch failure ",
              "(cudaErrorLaunchFailure)\n", "\n  the last op was embedding_backward (B 2, T 16, ",
              "\n  the last good checkpoint is " + (work.folder / "cut/checkpoint-").string(),
              "\n  try: the same command with --resume-from-checkpoint latest\n"});
  CHECK_FALSE(fs::exists(work.folder / "cut/model.safetensors"));

  std::vector<std::string> resume = command;
  resume.insert(resume.end(), {"--resume-from-checkpoint", "latest"});
  const ProgramResult resumed = CudaWorkplace::run(resume);
  INFO(resumed.err);
  CHECK(resumed.exit_code == 0);
  for (const std::string name : {"model.safetensors", "checkpoint-4/optimizer.safetensors",
                                 "checkpoint-4/trainer_state.json"}) {
    INFO(name);
    CHECK(work.content("cut/" + name) == work.content("straight/" + name));
  }

  // Before the first checkpoint there is nothing to go on from; without training no talk of it.
  check_says(CudaWorkplace::run(work.train_command("early", options), "fail_launch=9"), 5,
             {"unspecified launch failure", "no checkpoint was saved before", "try: quire doctor"});
  const ProgramResult text = CudaWorkplace::run(
      {"generate", "--model", work.folder / "straight", "-p", "The", "--device", "cuda"},
      "fail_launch=9");
  check_says(text, 5, {"unspecified launch failure", "the last op was "});
  CHECK(text.err.find("checkpoint") == std::string::npos);
}

TEST_CASE("the program itself refuses a card that is not there, and auto finds what is") {
  const ScratchFolder scratch;
  const std::string model = make_letter_model(scratch);
  const std::vector<std::string> command = {"generate", "--model", model, "-p", "the", "--device"};
  std::vector<std::string> cuda = command, automatic = command;
  cuda.emplace_back("cuda:99");  // is not there, whatever is
  automatic.emplace_back("auto");
  check_says(run_quire(cuda), 5, {"error: CUDA cannot be used: ", "\n  try: --device c"});
  CHECK(run_quire(automatic).exit_code == 0);
}
#endif

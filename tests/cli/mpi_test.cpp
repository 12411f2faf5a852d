// quire train as several processes that mpirun starts on this machine.
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <thread>

#include "engine/training/checkpoint.h"
#include "tests/cli/train_workplace.h"
#include "tests/support/catch.h"

using namespace quire;
using namespace quire::test;
namespace fs = std::filesystem;
using Json = nlohmann::json;

#ifdef QUIRE_MPIRUN

namespace {

/// Eight rows a batch of all ranks, no dropout: the model has two heads, and rows of an odd length
/// would draw numbers of their own (see DropoutSites).
std::vector<std::string> command(const Workplace& place, const std::string& output, int ranks,
                                 const std::vector<std::string>& more = {}) {
  std::vector<std::string> arguments =
      place.command(output, {"--dropout", "0", "--batch-size", std::to_string(8 / ranks),
                             "--gradient-accumulation-steps", "1", "--lr", "1e-3",
                             "--logging-steps", "1", "--max-steps", "12", "--threads", "1"});
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

/// mpirun with more ranks than cores, as root or not; `mark` stands
/// in the environment of all of them.
Program start(int ranks, const std::vector<std::string>& arguments, const std::string& mark = "1",
              const std::string& program = kProgram, const std::string& machine = "devices=2") {
  std::vector<std::string> all = {"-np", std::to_string(ranks), program};
  all.insert(all.end(), arguments.begin(), arguments.end());
  ProgramOptions options;
  options.program = QUIRE_MPIRUN;
  options.environment = {{"OMPI_ALLOW_RUN_AS_ROOT", "1"},
                         {"OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1"},
                         {"OMPI_MCA_rmaps_base_oversubscribe", "1"},
                         {"PRTE_MCA_rmaps_default_mapping_policy", ":oversubscribe"},
                         {"OMPI_MCA_hwloc_base_binding_policy", "none"},
                         {"QUIRE_CUDA_ON_HOST", machine},
                         {"QUIRE_TEST_RUN", mark}};
  return Program(all, options);
}

ProgramResult run(int ranks, const std::vector<std::string>& arguments) {
  return start(ranks, arguments).wait();
}

std::string read_all(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

/// The process of a rank of the run with that mark, 0 where there is none.
int process_of(const std::string& mark, int rank) {
  for (const fs::directory_entry& entry : fs::directory_iterator("/proc")) {
    const std::string name = entry.path().filename();
    if (name.find_first_not_of("0123456789") != std::string::npos) continue;
    const std::string environment = read_all(entry.path() / "environ");
    const auto has = [&](const std::string& setting) {
      return contains(environment, setting + std::string(1, '\0'));
    };
    const std::string number = std::to_string(rank);
    if (has("QUIRE_TEST_RUN=" + mark) &&
        (has("OMPI_COMM_WORLD_RANK=" + number) || has("PMI_RANK=" + number))) {
      return std::stoi(name);
    }
  }
  return 0;
}

struct Losses {
  std::vector<double> training, validation;
  double first_norm = 0;
};

Losses losses_of(const fs::path& folder) {
  Losses losses;
  for (const Json& line : json_lines(read_file(folder / "log.jsonl"))) {
    if (line.contains("eval_loss")) losses.validation.push_back(line["eval_loss"]);
    if (!line.contains("loss")) continue;
    losses.training.push_back(line["loss"]);
    if (losses.first_norm == 0) losses.first_norm = line["grad_norm"];
  }
  return losses;
}

std::string with_clock_removed(std::string log) {
  for (std::size_t at = 0; (at = log.find(",\"tokens_per_second\"", at)) != std::string::npos;) {
    log.erase(at, log.find('}', at) - at);
  }
  return log;
}

}  // namespace

TEST_CASE("mpirun: 2 and 4 ranks have the losses of one, with sharded moments too") {
  const Workplace place;
  const ProgramResult one = run_quire(command(place, "one", 1));
  INFO(one.err);
  REQUIRE(one.exit_code == 0);
  const Losses want = losses_of(place.folder / "one");
  REQUIRE(want.training.size() == 12);
  for (const int ranks : {2, 4}) {
    const std::string folder = std::to_string(ranks), sharded = folder + "-sharded";
    const ProgramResult many = run(ranks, command(place, folder, ranks));
    INFO(many.err);
    REQUIRE(many.exit_code == 0);
    CHECK(count_of(many.err, "12 steps in") == 1);  // one of them speaks
    const Losses got = losses_of(place.folder / folder);
    REQUIRE(got.training.size() == want.training.size());
    REQUIRE(got.validation.size() == want.validation.size());
    constexpr double kEps = std::numeric_limits<float>::epsilon(), kRate = 1e-3, kRows = 8;
    constexpr double kParameters = 22000;
    for (std::size_t i = 0; i < want.training.size(); ++i) {
      INFO(ranks << " ranks, step " << i + 1);
      // As in the engine's test of ranks: gradients are sums of 8 rows in another order, and each
      // step before this one has moved the parameters that far apart. Gradients are clipped to 1.
      const double apart = want.training[i] * 1e-14 + static_cast<double>(i) * kRate * kRows *
                                                          kEps * std::sqrt(kParameters) *
                                                          std::max(1.0, want.first_norm);
      CHECK(std::abs(got.training[i] - want.training[i]) <= apart);
    }
    const ProgramResult zero = run(ranks, command(place, sharded, ranks, {"--zero", "1"}));
    INFO(zero.err);
    REQUIRE(zero.exit_code == 0);
    for (const char* name : {"model.safetensors", "checkpoint-12/optimizer.safetensors"}) {
      INFO(name);
      CHECK(read_file(fs::path(place.folder / folder) / name) ==
            read_file(fs::path(place.folder / sharded) / name));
    }
    CHECK(with_clock_removed(read_file(fs::path(place.folder / folder) / "log.jsonl")) ==
          with_clock_removed(read_file(fs::path(place.folder / sharded) / "log.jsonl")));
  }
}

TEST_CASE("mpirun: an error is said once, with its exit code") {
  const Workplace place;
  const ProgramResult typo = run(2, command(place, "out", 2, {"--learning-rat", "1"}));
  CHECK(count_of(typo.err, "error: ") == 1);
  CHECK(contains(typo.err, "--learning-rate"));
  CHECK(typo.exit_code == 2);

  const ProgramResult diverged = run(2, command(place, "out", 2, {"--lr", "1e30"}));
  CHECK(count_of(diverged.err, "error: training diverged") == 1);
  CHECK(diverged.exit_code == 6);

  const ProgramResult used = run(2, command(place, "out", 2));
  CHECK(count_of(used.err, "is not empty") == 1);
  CHECK(used.exit_code == 2);

  const ProgramResult help = run(2, {"train", "--help"});
  CHECK(count_of(help.out, "--zero") >= 1);
  CHECK(count_of(help.out, "Usage:") == 1);
}

TEST_CASE("mpirun: a rank that is killed ends the run, which goes on from the step before") {
  const Workplace place;
  const std::vector<std::string> long_run = {"--max-steps",        "4000", "--save-steps", "0",
                                             "--validation-split", "0"};
  for (const int victim : {1, 0}) {
    const std::string folder = "victim-" + std::to_string(victim);
    const std::string mark = std::to_string(::getpid()) + "-" + folder;
    std::vector<std::string> arguments = command(place, folder, 2, long_run);
    Program program = start(2, arguments, mark);
    REQUIRE(program.wait_for("step 20/"));
    const int process = process_of(mark, victim);
    REQUIRE(process > 0);
    REQUIRE(::kill(process, SIGKILL) == 0);
    const ProgramResult result = program.wait();
    INFO(result.err);
    CHECK(result.exit_code != 0);
    CHECK(count_of(result.err,
                   "error: rank " + std::to_string(victim) + " of 2 has ended unexpectedly") == 1);
    const std::vector<std::int64_t> saved = checkpoint_steps(place.folder / folder);
    REQUIRE(saved.size() == 1);
    CHECK(saved[0] >= 20);
    CHECK(contains(result.err,
                   "the last good checkpoint is " +
                       (fs::path(place.folder / folder) / checkpoint_name(saved[0])).string()));
    CHECK(contains(result.err, "try: the same command with --resume-from-checkpoint latest"));
    CHECK(process_of(mark, 0) == 0);
    CHECK(process_of(mark, 1) == 0);

    arguments.insert(arguments.end(), {"--resume-from-checkpoint", "latest", "--stop-at-step",
                                       std::to_string(saved[0] + 5)});
    const ProgramResult resumed = run(2, arguments);
    INFO(resumed.err);
    CHECK(contains(resumed.err, "going on from"));
    CHECK(contains(resumed.err, "stopped after step"));
  }
}

TEST_CASE("mpirun: a signal that it passes on ends the run with a checkpoint") {
  const Workplace place;
  const std::string mark = std::to_string(::getpid()) + "-signal";
  Program program =
      start(2, command(place, "out", 2, {"--max-steps", "4000", "--zero", "1"}), mark);
  REQUIRE(program.wait_for("step 10/"));
  for (const int rank : {0, 1}) REQUIRE(::kill(process_of(mark, rank), SIGUSR1) == 0);
  const ProgramResult result = program.wait();
  INFO(result.err);
  CHECK(count_of(result.err, "interrupted after step") == 1);
  CHECK(result.exit_code == 128 + SIGUSR1);
  CHECK(checkpoint_steps(place.folder / "out").size() == 1);
}

#ifndef QUIRE_TEST_ON_GPU
TEST_CASE("mpirun: each rank takes a card of its own, with NCCL and without") {
  const Workplace place;
  std::vector<std::string> arguments = command(
      place, "cards", 2,
      {"--max-steps", "2", "--validation-split", "0", "--block-size", "8", "--device", "cuda"});
  const ProgramResult cards = start(2, arguments, "cards", kCudaProgram).wait();
  INFO(cards.err);
  REQUIRE(cards.exit_code == 0);
  arguments = command(place, "sharded", 2,
                      {"--max-steps", "2", "--validation-split", "0", "--block-size", "8",
                       "--device", "cuda", "--zero", "1"});
  REQUIRE(start(2, arguments, "sharded", kCudaProgram).wait().exit_code == 0);
  arguments = command(
      place, "staged", 2,
      {"--max-steps", "2", "--validation-split", "0", "--block-size", "8", "--device", "cuda"});
  REQUIRE(start(2, arguments, "staged", kCudaProgram, "devices=2,groups=0").wait().exit_code == 0);
  for (const char* other : {"sharded", "staged"}) {  // two numbers have one sum
    INFO(other);
    CHECK(read_file(fs::path(place.folder / "cards") / "model.safetensors") ==
          read_file(fs::path(place.folder / other) / "model.safetensors"));
  }
  const ProgramResult cpu =
      run(2, command(place, "cpu", 2,
                     {"--max-steps", "2", "--validation-split", "0", "--block-size", "8"}));
  REQUIRE(cpu.exit_code == 0);
  const Losses got = losses_of(place.folder / "cards"), want = losses_of(place.folder / "cpu");
  REQUIRE(got.training.size() == 2);
  for (std::size_t i = 0; i < 2; ++i) {
    // Sums of at most 300 terms each; see cuda_test.cpp.
    const double eps = std::numeric_limits<float>::epsilon() / 2;
    CHECK(std::abs(got.training[i] - want.training[i]) <=
          300 * eps * (want.training[i] + 2 * 1e-3 * std::sqrt(22000)));
  }
  arguments = command(
      place, "third", 3,
      {"--max-steps", "2", "--validation-split", "0", "--block-size", "8", "--device", "cuda"});
  const ProgramResult third = start(3, arguments, "third", kCudaProgram).wait();
  INFO(third.err);
  CHECK(third.exit_code == 5);
  CHECK(count_of(third.err, "error: ") == 1);
  CHECK(contains(third.err, "there is no card 2"));
  CHECK(contains(third.err, "on rank 2 of 3"));
}
#endif

#else

TEST_CASE("without MPI, what a launcher started is refused") {
  const Workplace place;
  ProgramOptions options;
  options.environment = {{"OMPI_COMM_WORLD_SIZE", "2"}};
  const ProgramResult result = run_quire(place.command("out"), options);
  CHECK(result.exit_code == 2);
  CHECK(contains(result.err, "built without MPI"));
  CHECK_FALSE(fs::exists(place.folder / "out"));
}

#endif

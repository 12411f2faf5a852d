#include "engine/training/checkpoint.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <functional>
#include <limits>
#include <memory>
#include <string>

#include "engine/formats/safetensors.h"
#include "tests/engine/training/tiny_run.h"
#include "tests/support/catch.h"

using namespace quire;
using namespace quire::test;
namespace fs = std::filesystem;

namespace {

std::int64_t file_calls = 0;       // of this process that change files
std::int64_t last_file_call = -1;  // of them: in place of the next one the process is killed

int counted(int number, auto... arguments) {
  if (file_calls++ == last_file_call) ::raise(SIGKILL);
  return static_cast<int>(::syscall(number, arguments...));
}

}  // namespace

// In the place of the C library's, for the library and for std::filesystem.
extern "C" {
ssize_t write(int file, const void* bytes, std::size_t size) {
  return counted(SYS_write, file, bytes, size);
}
int fsync(int file) {
  return counted(SYS_fsync, file);
}
int rename(const char* from, const char* to) noexcept {
  return counted(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
}
int unlink(const char* path) noexcept {
  return counted(SYS_unlinkat, AT_FDCWD, path, 0);
}
int unlinkat(int folder, const char* path, int flags) noexcept {
  return counted(SYS_unlinkat, folder, path, flags);
}
int mkdir(const char* path, mode_t mode) noexcept {
  return counted(SYS_mkdirat, AT_FDCWD, path, mode);
}
}

namespace {

/// Runs `action` in a forked child that never returns into the tests, and returns its wait status.
int in_child(const std::function<int()>& action) {
  const pid_t child = ::fork();
  if (child == 0) {
    int code = 99;
    try {
      code = action();
    } catch (...) {}
    ::_exit(code);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return status;
}

}  // namespace

TEST_CASE("three steps, a stop, and three more write the bytes of six steps") {
  const ScratchFolder scratch;
  const std::unique_ptr<Device> device = open_reference_device();
  const TrainingConfig straight = tiny_config(scratch / "straight");
  TrainingConfig split = tiny_config(scratch / "split");
  train_tiny(*device, straight);

  // Stops at 3 (a checkpoint anyway), at 4 (none otherwise) and at once after resuming.
  for (const std::int64_t stop : {3, 4}) {
    fs::remove_all(split.output_dir);
    split.resume_from_checkpoint = "";
    const TrainingResult first = train_tiny(*device, split, stop_after(stop));
    CHECK(first.interrupted);
    CHECK(first.steps == stop);
    CHECK(first.last_checkpoint.filename() == checkpoint_name(stop));
    CHECK_FALSE(fs::exists(split.output_dir / "model.safetensors"));

    const TrainingResult none = train_tiny(*device, resumed(split), stop_after(0));
    CHECK(none.interrupted);
    CHECK(none.steps == stop);

    const TrainingResult second = train_tiny(*device, resumed(split));
    CHECK_FALSE(second.interrupted);
    CHECK(second.steps == 6);
    if (stop == 4) fs::remove_all(split.output_dir / checkpoint_name(4));
    std::string difference;
    same_files(files_of(straight.output_dir), files_of(split.output_dir), difference);
    INFO("stopped at " << stop << ": " << difference);
    CHECK(difference.empty());
  }
}

TEST_CASE("a stop before the first step leaves the folder to the same command") {
  const ScratchFolder scratch;
  const std::unique_ptr<Device> device = open_reference_device();
  const TrainingConfig config = tiny_config(scratch / "out");
  const TrainingResult none = train_tiny(*device, config, stop_after(0));
  CHECK(none.interrupted);
  CHECK(none.steps == 0);
  CHECK(files_of(config.output_dir).empty());
  CHECK(train_tiny(*device, config).steps == 6);
}

TEST_CASE("going on from an older checkpoint writes log and later checkpoints anew") {
  const ScratchFolder scratch;
  const std::unique_ptr<Device> device = open_reference_device();
  TrainingConfig config = tiny_config(scratch / "out");
  train_tiny(*device, config);
  const std::map<std::string, std::string> expected = files_of(config.output_dir);
  config.resume_from_checkpoint = (config.output_dir / "checkpoint-3").string();
  CHECK(train_tiny(*device, config).steps == 6);
  std::string difference;
  same_files(expected, files_of(config.output_dir), difference);
  INFO(difference);
  CHECK(difference.empty());
}

TEST_CASE("a stop during an evaluation is made up for on resuming") {
  const ScratchFolder scratch;
  const std::unique_ptr<Device> device = open_reference_device();
  const TrainingConfig straight = tiny_config(scratch / "straight");
  const TrainingConfig split = tiny_config(scratch / "split");
  train_tiny(*device, straight);
  // Evaluations have two micro-batches: the request comes between those of step 2.
  int asked = 0;
  std::int64_t step = 0;
  TrainingCallbacks callbacks;
  callbacks.on_step = [&](const TrainingProgress& progress) { step = progress.step; };
  callbacks.stop_requested = [&] { return step == 2 && ++asked >= 2; };
  CHECK(train_tiny(*device, split, callbacks).steps == 2);
  train_tiny(*device, resumed(split));
  fs::remove_all(split.output_dir / checkpoint_name(2));
  std::string difference;
  same_files(files_of(straight.output_dir), files_of(split.output_dir), difference);
  INFO(difference);
  CHECK(difference.empty());
}

TEST_CASE("a run killed at any moment, twenty times, goes on from its last complete checkpoint") {
  const ScratchFolder scratch;
  // Parameters or an adapter, rows of one record or of several. They save after every step, so that
  // most of their calls are of saving.
  const auto config_of = [&](bool adapter, const std::string& folder) {
    TrainingConfig config = tiny_config(scratch / folder);
    config.save_steps = 1;
    config.max_steps = 12;
    config.save_total_limit = 3;
    if (!adapter) return config;
    config.lora.r = 2;
    config.packing = Packing::records;
    config.load_best_model_at_end = true;
    return config;
  };
  std::array<std::map<std::string, std::string>, 2> expected;
  std::array<std::int64_t, 2> calls;
  for (const bool adapter : {false, true}) {
    const TrainingConfig config = config_of(adapter, adapter ? "adapter" : "straight");
    const std::int64_t before = file_calls;
    train_tiny(*open_reference_device(), config);
    calls[adapter] = file_calls - before;
    expected[adapter] = files_of(config.output_dir);
  }
  for (int trial = 0; trial < 20; ++trial) {
    const bool adapter = trial % 2 == 1;
    TrainingConfig config = config_of(adapter, "killed-" + std::to_string(trial));
    // Another moment in each run of this test, all over the run's calls.
    const double moment = (trial / 2 + random_uniform({static_cast<std::uint64_t>(::getpid()), 5},
                                                      static_cast<std::uint64_t>(trial))) /
                          10;
    const auto call = static_cast<std::int64_t>(static_cast<double>(calls[adapter]) * moment);
    const int status = in_child([&] {
      last_file_call = file_calls + call;
      train_tiny(*open_reference_device(), config);
      return 0;
    });
    INFO("trial " << trial << ", killed at call " << call << " of " << calls[adapter]);
    CHECK(WIFSIGNALED(status));

    const bool started = !checkpoint_steps(config.output_dir).empty();
    config.overwrite_output_dir = !started;
    const std::unique_ptr<Device> device = open_reference_device();
    train_tiny(*device, started ? resumed(config) : config);
    std::string difference;
    same_files(expected[adapter], files_of(config.output_dir), difference);
    INFO(difference);
    CHECK(difference.empty());
  }
}

TEST_CASE("a run that was killed before it removed an old checkpoint does so when it goes on") {
  const ScratchFolder scratch;
  const std::unique_ptr<Device> device = open_reference_device();
  TrainingConfig config = tiny_config(scratch / "out");
  config.save_steps = 1;
  config.save_total_limit = 4;
  train_tiny(*device, config);
  config.save_total_limit = 3;  // as if the last save had been all that was done
  CHECK(train_tiny(*device, resumed(config)).steps == 6);
  CHECK(checkpoint_steps(config.output_dir) == std::vector<std::int64_t>{4, 5, 6});
}

TEST_CASE("what killed saves leave behind is not taken for a checkpoint, and goes") {
  const ScratchFolder scratch;
  const std::unique_ptr<Device> device = open_reference_device();
  TrainingConfig config = tiny_config(scratch / "out");
  train_tiny(*device, config, stop_after(3));
  fs::copy(config.output_dir / "checkpoint-3", config.output_dir / ".saving-checkpoint-9",
           fs::copy_options::recursive);
  fs::copy(config.output_dir / "checkpoint-3", config.output_dir / ".removing-checkpoint-1",
           fs::copy_options::recursive);
  fs::create_directories(config.output_dir / "checkpoint-8");       // empty: not ours
  fs::create_directories(config.output_dir / ".saving-something");  // not ours either
  CHECK(find_checkpoint(config.output_dir, "latest").filename() == "checkpoint-3");
  CHECK(train_tiny(*device, resumed(config)).steps == 6);
  CHECK_FALSE(fs::exists(config.output_dir / ".saving-checkpoint-9"));
  CHECK_FALSE(fs::exists(config.output_dir / ".removing-checkpoint-1"));
  CHECK(fs::exists(config.output_dir / ".saving-something"));
}

TEST_CASE("resuming with other data, model, batch or seed is refused with what differs") {
  const ScratchFolder scratch;
  const std::unique_ptr<Device> device = open_reference_device();
  TrainingConfig config = tiny_config(scratch / "out");
  train_tiny(*device, config, stop_after(3));
  config = resumed(config);
  const auto refusal = [&](const TrainingConfig& changed, const Gpt2Config& model,
                           const TokenRecords& records) {
    const Parameters parameters = initialize_parameters(*device, model, 11);
    const Error error =
        thrown_by([&] { train(*device, model, parameters, records, tiny_records(5, 2), changed); });
    CHECK(error.fault() == Fault::usage);
    std::string text;
    for (const std::string& line : error.details()) text += line + "\n";
    return text;
  };
  const Gpt2Config model = tiny_model(0.1f);
  const TokenRecords records = tiny_records(20, 1);

  TrainingConfig changed = config;
  changed.per_device_train_batch_size = 6;
  changed.gradient_accumulation_steps = 1;
  CHECK(refusal(changed, model, records) ==
        "gradient_accumulation_steps: the checkpoint has 2, now 1\n"
        "per_device_train_batch_size × ranks: the checkpoint has 3, now 6\n");
  changed = config;
  changed.seed = 43;
  changed.data_seed = 42;
  CHECK(refusal(changed, model, records) == "seed: the checkpoint has 42, now 43\n");
  TokenRecords other = records;
  other.ids[5] = (other.ids[5] + 1) % 16;
  CHECK(refusal(config, model, other).find("training data: the checkpoint has") == 0);
  Gpt2Config deeper = model;
  deeper.n_layer = 3;
  CHECK(refusal(config, deeper, records) == "model n_layer: the checkpoint has 2, now 3\n");

  // The schedule and the length of the run may change; that is said.
  changed = config;
  changed.learning_rate = 1e-3f;
  changed.max_steps = 4;
  changed.keep_outputs = true;
  std::vector<std::string> notes;
  TrainingCallbacks callbacks;
  callbacks.on_note = [&](const std::string& line) { notes.push_back(line); };
  CHECK(train_tiny(*device, changed, callbacks).steps == 4);
  REQUIRE(notes.size() == 4);
  CHECK(notes[0] == "learning_rate: the checkpoint has 0.01, now 0.001");
  CHECK(notes[1] == "max_steps: the checkpoint has 6, now 4");
  CHECK(notes[2] == "outputs of layernorms and activations: the checkpoint has none, now kept");
}

TEST_CASE("a folder in use, a used folder and a missing checkpoint are refused") {
  const ScratchFolder scratch;
  const std::unique_ptr<Device> device = open_reference_device();
  TrainingConfig config = tiny_config(scratch / "out");
  config.max_steps = 1;
  CHECK(thrown_by([&] { train_tiny(*device, resumed(config)); }).message().find("no checkpoint") !=
        std::string::npos);

  // A second run into the folder while the first one lives.
  std::string second;
  TrainingCallbacks callbacks;
  callbacks.on_step = [&](const TrainingProgress&) {
    second = thrown_by([&] { train_tiny(*device, resumed(config)); }).message();
  };
  train_tiny(*device, config, callbacks);
  CHECK(second.find("another run is writing into") != std::string::npos);

  const Error used = thrown_by([&] { train_tiny(*device, config); });
  CHECK(used.fault() == Fault::usage);
  CHECK(used.message().find("is not empty") != std::string::npos);
  CHECK(used.next().find("`resume_from_checkpoint` latest") == 0);
  const std::map<std::string, std::string> before = files_of(config.output_dir);
  config.overwrite_output_dir = true;
  train_tiny(*device, config);
  std::string difference;
  CHECK(same_files(before, files_of(config.output_dir), difference));

  write_file(config.output_dir / "checkpoint-1" / "trainer_state.json", "{\"version\": 1}");
  CHECK(thrown_by([&] { train_tiny(*device, resumed(config)); }).message().find("is damaged") !=
        std::string::npos);
  config.resume_from_checkpoint = (scratch / "nowhere").string();
  CHECK(thrown_by([&] { train_tiny(*device, config); }).message().find("is not a checkpoint") !=
        std::string::npos);
}

TEST_CASE("a damaged newest checkpoint is named with the newest sound one and the way to it") {
  const ScratchFolder scratch;
  TrainingConfig config = tiny_config(scratch / "out");
  config.max_steps = 3;
  config.save_steps = 1;
  config.save_total_limit = 0;
  const std::unique_ptr<Device> device = open_reference_device();
  train_tiny(*device, config);
  config.max_steps = 4;
  for (const char* name : {"model.safetensors", "optimizer.safetensors"}) {
    const fs::path file = config.output_dir / "checkpoint-3" / name;
    const std::string whole = read_file(file);
    write_file(file, whole.substr(0, whole.size() - 4));
    write_file(config.output_dir / "checkpoint-2" / "trainer_state.json", "{");
    const Error error = thrown_by([&] { train_tiny(*device, resumed(config)); });
    CHECK(error.fault() == Fault::bad_data);
    CHECK(error.message().find("the newest checkpoint, ") != std::string::npos);
    CHECK(error.message().find("checkpoint-3, is damaged") != std::string::npos);
    CHECK(error.message().find(name) != std::string::npos);
    CHECK(error.next().ends_with("`resume_from_checkpoint` " +
                                 (config.output_dir / "checkpoint-1").string()));
    write_file(file, whole);
  }
}

TEST_CASE("a newest checkpoint from which a file is gone is not passed over in silence") {
  const ScratchFolder scratch;
  TrainingConfig config = tiny_config(scratch / "out");
  config.max_steps = 2;
  config.save_steps = 1;
  config.save_total_limit = 0;
  const std::unique_ptr<Device> device = open_reference_device();
  train_tiny(*device, config);
  config.max_steps = 3;
  const fs::path newest = config.output_dir / "checkpoint-2";
  const std::string older = (config.output_dir / "checkpoint-1").string();
  for (const char* name : {"trainer_state.json", "optimizer.safetensors", "model.safetensors"}) {
    const std::string whole = read_file(newest / name);
    fs::remove(newest / name);
    const Error error = thrown_by([&] { train_tiny(*device, resumed(config)); });
    CHECK(error.message() == "error: the newest checkpoint, " + newest.string() +
                                 ", is damaged\n  " + newest.string() + " has no " + name + "\n  " +
                                 older +
                                 " is sound\n  try: the same command with "
                                 "`resume_from_checkpoint` " +
                                 older);
    write_file(newest / name, whole);
  }
  CHECK(find_checkpoint(config.output_dir, "latest") == newest);
  fs::remove(newest / "model.safetensors");
  config.resume_from_checkpoint = older;
  CHECK(train_tiny(*device, config).steps == 3);
}

TEST_CASE("a full disk while saving is no space, and the old checkpoint survives") {
  const ScratchFolder scratch;
  const TrainingConfig config = tiny_config(scratch / "out");
  train_tiny(*open_reference_device(), config, stop_after(3));
  const std::map<std::string, std::string> before = files_of(config.output_dir / "checkpoint-3");

  // Moments of 4,000 parameters take 33 KB, the log's and the state's lines far less.
  const int status = in_child([&] {
    ::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{20'000, 20'000};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    try {
      train_tiny(*open_reference_device(), resumed(config));
    } catch (const Error& error) {
      const bool names_it =
          error.message().find("checkpoint-3") != std::string::npos &&
          error.next().find("`resume_from_checkpoint` latest") != std::string::npos;
      return error.fault() == Fault::no_space && names_it ? 4 : 1;
    }
    return 0;
  });
  REQUIRE(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 4);
  CHECK(files_of(config.output_dir / "checkpoint-3") == before);
  CHECK(checkpoint_steps(config.output_dir) == std::vector<std::int64_t>{3});
  for (const auto& entry : fs::directory_iterator(config.output_dir)) {
    CHECK(entry.path().filename().string().front() != '.');  // no half of a save is left
  }
  CHECK(train_tiny(*open_reference_device(), resumed(config)).steps == 6);
}

TEST_CASE("rotation keeps the newest checkpoints and the best one") {
  const ScratchFolder scratch;
  for (const int step : {2, 4, 6, 8, 10}) {
    const fs::path folder = scratch / checkpoint_name(step);
    fs::create_directories(folder);
    for (const char* file : {"trainer_state.json", "model.safetensors", "optimizer.safetensors"}) {
      write_file(folder / file, "x");
    }
  }
  rotate_checkpoints(scratch.path(), {.limit = 0});
  CHECK(checkpoint_steps(scratch.path()).size() == 5);
  rotate_checkpoints(scratch.path(), {.limit = 3, .best_step = 4});
  CHECK(checkpoint_steps(scratch.path()) == std::vector<std::int64_t>{4, 8, 10});
  rotate_checkpoints(scratch.path(), {.limit = 1, .best_step = 4});
  CHECK(checkpoint_steps(scratch.path()) == std::vector<std::int64_t>{4, 10});
}

TEST_CASE("a checkpoint of another shape is refused before anything is overwritten") {
  const ScratchFolder scratch;
  const std::unique_ptr<Device> device = open_reference_device();
  const TrainingConfig config = tiny_config(scratch / "out");
  train_tiny(*device, config, stop_after(3));
  Gpt2Config wider = tiny_model(0.1f);
  wider.n_positions = 13;
  const Parameters parameters = initialize_parameters(*device, wider, 11);
  const TrainedModel model{*device, wider, parameters};
  const Error error = thrown_by([&] { model.load(config.output_dir / "checkpoint-3"); });
  CHECK(error.fault() == Fault::bad_data);
  CHECK(error.message().find("[12, 12]") != std::string::npos);
  CHECK(error.message().find("[13, 12]") != std::string::npos);
}

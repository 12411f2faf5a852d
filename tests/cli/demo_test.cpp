// quire demo: the whole of it on a model of a few kilobytes, on a terminal, in a pipe, interrupted.
#include <algorithm>
#include <csignal>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "tests/cli/train_workplace.h"
#include "tests/support/catch.h"

namespace fs = std::filesystem;
using quire::test::contains;
using quire::test::count_of;
using quire::test::file;
using quire::test::json_lines;
using quire::test::Program;
using quire::test::ProgramOptions;
using quire::test::ProgramResult;
using quire::test::run_quire;
using quire::test::ScratchFolder;
using quire::test::Streams;

namespace {

// A model of one layer, trained for a step, in scratch/model.
std::string small_model(const ScratchFolder& scratch) {
  const std::string text = scratch.write("text.txt", "The wind went over the hill, my friend.\n");
  const std::string config = scratch.write(
      "config.json", R"({"n_layer": 1, "n_embd": 16, "n_head": 2, "n_positions": 64})");
  REQUIRE(run_quire({"tokenizer", "train", "--vocab-size", "260", "-o", scratch / "tok", text})
              .exit_code == 0);
  const ProgramResult trained =
      run_quire({"train", "--config", config, "--tokenizer", scratch / "tok", "--data", text,
                 "--validation-split", "0", "--max-steps", "1", "--output-dir", scratch / "model"});
  CAPTURE(trained.err);
  REQUIRE(trained.exit_code == 0);
  return scratch / "model";
}

}  // namespace

TEST_CASE("the demo shows text before and after, and the loss falls") {
  const ScratchFolder scratch;
  const std::vector<std::string> command = {
      "demo",        "--model", small_model(scratch), "--output-dir", scratch / "out",
      "--max-steps", "12"};
  const ProgramResult result = run_quire(command);
  CAPTURE(result.err);
  REQUIRE(result.exit_code == 0);
  for (const char* part : {"Before (▸ ends the prompt)\n  The wind ▸", "After\n  The wind ▸",
                           "\n  I will ▸", "418 quotes and 47 held out", "step    0: loss ",
                           "step   12: loss ", "perplexity on held-out quotes: ",
                           " generate --model ", " eval --model ", " train --model "}) {
    CAPTURE(part);
    CHECK(contains(result.out, part));
  }
  CHECK(contains(result.err, " step 12/12 · loss "));
  CHECK(contains(result.err, "\n12 steps in "));
  CHECK_FALSE(contains(result.out + result.err, "\x1b"));
  CHECK_FALSE(contains(result.out + result.err, "\r"));
  const auto loss_at = [&](const std::string& step) {
    return std::stod(result.out.substr(result.out.find(step) + step.size()));
  };
  CHECK(loss_at("step   12: loss ") < loss_at("step    0: loss "));
  CHECK(fs::exists(scratch / "out/model.safetensors"));
  CHECK(fs::exists(scratch / "out/tokenizer.json"));

  // What it saved is a model, and what it made it may make again: the same, on any threads.
  CHECK(run_quire({"generate", "--model", scratch / "out", "--prompt", "The wind"}).exit_code == 0);
  const std::string weights = file(scratch / "out", "model.safetensors");
  std::vector<std::string> on_one_thread = command;
  on_one_thread.insert(on_one_thread.end(), {"--threads", "1", "--quiet"});
  const ProgramResult again = run_quire(on_one_thread);
  CHECK(again.exit_code == 0);
  CHECK(again.out == result.out);
  CHECK(again.err.empty());
  CHECK(file(scratch / "out", "model.safetensors") == weights);
}

TEST_CASE("the demo saves its card, and the options with which quire train makes the same model") {
  const ScratchFolder scratch;
  const std::string model = small_model(scratch);
  const ProgramResult demo = run_quire(
      {"demo", "--model", model, "--output-dir", scratch / "out", "--max-steps", "5", "--json"});
  CAPTURE(demo.err);
  REQUIRE(demo.exit_code == 0);
  std::vector<std::string> events;
  for (const nlohmann::json& event : json_lines(demo.out)) {
    events.push_back(event["event"].get<std::string>());
    if (events.back() == "sample") CHECK(event["step"] == (events.size() <= 3 ? 0 : 5));
  }
  REQUIRE(events.size() > 8);
  CHECK(std::count(events.begin(), events.end(), "sample") == 6);
  CHECK(std::count(events.begin(), events.end(), "eval") >= 2);
  CHECK(events.back() == "done");

  const ProgramResult trained =
      run_quire({"train", "--config-file", scratch / "out/quire_config.json", "--output-dir",
                 scratch / "trained"});
  CAPTURE(trained.err);
  REQUIRE(trained.exit_code == 0);
  for (const char* name : {"model.safetensors", "quire_config.json", "tokenizer.json"}) {
    CAPTURE(name);
    CHECK(file(scratch / "out", name) == file(scratch / "trained", name));
  }
  CHECK(contains(file(scratch / "out", "README.md"), "# out\n"));
  CHECK(contains(file(scratch / "out", "README.md"), "- `quotes.csv`"));
  CHECK(contains(file(scratch / "out", "log.jsonl"), "\"eval_loss\""));
}

TEST_CASE("a demo whose time is up says that it was cut short") {
  const ScratchFolder scratch;
  const ProgramResult result = run_quire({"demo", "--model", small_model(scratch), "--output-dir",
                                          scratch / "out", "--max-time", "0.000001s", "--quiet"});
  CHECK(result.exit_code == 0);
  CHECK(contains(result.out, "\nAfter\n"));
  CHECK(contains(result.err, "warning: cut short after step 1, as --max-time 0.000001s was over"));
  CHECK(fs::exists(scratch / "out/model.safetensors"));
}

TEST_CASE("on a terminal the demo's progress line moves in place and fits") {
  const ScratchFolder scratch;
  ProgramOptions options;
  options.streams = Streams::terminal;
  const std::vector<std::string> command = {
      "demo",        "--model", small_model(scratch), "--output-dir", scratch / "out",
      "--max-steps", "40"};
  const ProgramResult result = run_quire(command, options);
  REQUIRE(result.exit_code == 0);
  CHECK(contains(result.out, "\x1b[1mBefore\x1b[0m"));
  CHECK(contains(result.out, "\r  ░"));
  CHECK(contains(result.out, "\x1b[K"));
  options.environment = {{"NO_COLOR", "1"}};
  CHECK_FALSE(contains(run_quire(command, options).out, "\x1b[1m"));
  options.environment = {{"TERM", "dumb"}};
  const ProgramResult dumb = run_quire(command, options);
  CHECK_FALSE(contains(dumb.out, "\x1b"));
  CHECK(contains(dumb.out, " step 40/40 · loss "));
}

TEST_CASE("Ctrl-C once ends the demo after its step, with a checkpoint and 130") {
  const ScratchFolder scratch;
  const std::string model = small_model(scratch);
  const std::vector<std::string> command = {"demo",          "--model",     model, "--output-dir",
                                            scratch / "out", "--max-steps", "4000"};
  for (const auto& [signal, code] : {std::pair{SIGINT, 130}, std::pair{SIGTERM, 143}}) {
    Program program(command);
    REQUIRE(program.wait_for(" step 500/4000 "));
    program.send(signal);
    const ProgramResult result = program.wait();
    CAPTURE(result.err);
    CHECK(result.exit_code == code);
    CHECK(contains(result.err, "interrupted after step "));
    // Once where it is saved, once in the command that writes with it.
    CHECK(count_of(result.err, "/checkpoint-") == 2);
    CHECK(contains(result.err, "\n  try: "));
    CHECK(contains(result.err, "finishing this step; again to stop now\n"));
  }
  // The folder of an interrupted demo is the demo's still. Before the first step
  // there is nothing to save.
  Program program(command);
  REQUIRE(program.wait_for("Before ("));
  program.send(SIGINT);
  const ProgramResult result = program.wait();
  CHECK(result.exit_code == 130);
  CHECK_FALSE(contains(result.err, "/checkpoint-"));
  CHECK(contains(result.err, "\n  try: the same command again"));
}

TEST_CASE("the demo leaves folders alone that it did not make") {
  const ScratchFolder scratch;
  const std::string mine = scratch.write("out/letter.txt", "dear diary");
  const std::string model = small_model(scratch);
  const ProgramResult result = run_quire({"demo", "--model", model, "-o", scratch / "out"});
  CHECK(result.exit_code == 2);
  CHECK(contains(result.err, "is not empty and was not made by quire demo"));
  CHECK(fs::exists(mine));
  CHECK(fs::file_size(mine) == 10);
  CHECK(run_quire({"demo", "--model", model, "-o", mine}).exit_code == 3);
  const ProgramResult over = run_quire({"demo", "--model", model, "-o", scratch / "out",
                                        "--overwrite-output-dir", "--max-steps", "1"});
  CHECK(over.exit_code == 0);
  CHECK(fs::exists(mine));  // what is not a run's stays
  CHECK(fs::exists(scratch / "out/model.safetensors"));
}

TEST_CASE("the demo says where it looked for a model that is not there") {
  const ScratchFolder scratch;
  const ProgramResult result =
      run_quire({"demo", "--model", "no-such-model", "-o", scratch / "out"});
  CHECK(result.exit_code == 3);
  CHECK(contains(result.err, "error: there is no model 'no-such-model'\n"));
  CHECK(contains(result.err, "models/no-such-model"));
  CHECK_FALSE(fs::exists(scratch / "out"));
}

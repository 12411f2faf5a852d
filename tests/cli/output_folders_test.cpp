// Folders that cannot be made: the same answer from every command that writes into one.
#include <filesystem>

#include "base/file.h"
#include "tests/cli/train_workplace.h"
#include "tests/support/catch.h"

using namespace quire;
using namespace quire::test;

TEST_CASE("an output folder that cannot be made is the user's matter in every command") {
  const Workplace work;
  REQUIRE(run_quire(work.command("model", {"--max-steps", "1"})).exit_code == 0);
  const std::string model = work.folder / "model";
  const std::string sweep = work.folder.write(
      "sweep.json", R"({"method": "grid", "search": {"seed": [1]}, "train": {"model": ")" + model +
                        R"(", "data": ")" + work.text + R"(", "max_steps": 1}})");
  const std::string folder = work.folder / "text.txt/out";  // below a file
  const std::vector<std::vector<std::string>> commands = {
      {"demo", "--model", model},
      {"train", "--model", model, "--data", work.text},
      {"tokenizer", "train", work.text},
      {"data", "prepare", work.text, "--tokenizer", work.tokenizer},
      {"generate", "--model", model, "--prompt", "The"},
      {"eval", "--texts", work.text},
      {"sweep", sweep}};
  for (std::vector<std::string> command : commands) {
    INFO(command[0]);
    command.insert(command.end(), {"--output-dir", folder});
    const ProgramResult result = run_quire(command);
    INFO(result.err);
    CHECK(result.exit_code == 3);
    CHECK(result.out.empty());
    CHECK(result.err == "error: cannot create the folder " + folder + "\n  " + work.text +
                            ": a file has that name\n  try: another --output-dir\n");
    command.back() = work.text;  // the file itself
    const ProgramResult file = run_quire(command);
    INFO(file.err);
    CHECK(file.exit_code == 3);
    CHECK(contains(file.err, "error: cannot create the folder " + work.text + "\n"));
  }
}

TEST_CASE(
    "a training goes on and saves when nobody reads its output, or the disk behind it is full") {
  const Workplace work;
  const std::vector<std::string> options = {"--max-steps",     "200", "--json", "-q",
                                            "--logging-steps", "1"};
  {
    Program program(work.command("left", options));
    REQUIRE(program.wait_for("\"step\":1,"));
    program.close_output();
    const ProgramResult left = program.wait();
    INFO(left.err);
    CHECK(left.exit_code == 0);
    CHECK(left.err == "warning: nobody reads standard output any more: going on without it\n");
  }
  const ProgramResult full = run_quire(work.command("full", options), {.output_file = "/dev/full"});
  INFO(full.err);
  CHECK(full.exit_code == 4);
  CHECK(count_of(full.err, "\n") == 1);
  CHECK(contains(full.err, "No space left on device: going on without it"));
  REQUIRE(run_quire(work.command("read", options)).exit_code == 0);
  const std::string model = file(work.folder / "read", "model.safetensors");
  CHECK(file(work.folder / "left", "model.safetensors") == model);
  CHECK(file(work.folder / "full", "model.safetensors") == model);
}

TEST_CASE("with standard output closed no file of the training takes its place") {
  const Workplace work;
  std::string command = "exec " + std::string(kProgram);
  for (const std::string& argument : work.command("closed", {"--max-steps", "2", "--json", "-q"})) {
    command += " '" + argument + "'";
  }
  ProgramOptions options;
  options.program = "/bin/sh";
  const ProgramResult result = run_quire({"-c", command + " >&-"}, options);
  INFO(result.err);
  CHECK(result.exit_code == 3);
  CHECK(contains(result.err, "Bad file descriptor: going on without it"));
  REQUIRE(run_quire(work.command("open", {"--max-steps", "2"})).exit_code == 0);
  for (const char* name : {"model.safetensors", "quire_config.json"}) {
    INFO(name);
    CHECK(file(work.folder / "closed", name) == file(work.folder / "open", name));
  }
}

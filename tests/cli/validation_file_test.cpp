// quire train --validation-file.
#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/json.h"
#include "tests/cli/train_workplace.h"
#include "tests/support/catch.h"

using namespace quire;
using namespace quire::test;
namespace fs = std::filesystem;
using Json = nlohmann::json;

namespace {

const std::vector<std::string> kWritten = {"model.safetensors", "quire_config.json"};

std::vector<std::string> with(std::vector<std::string> some, const std::vector<std::string>& more) {
  some.insert(some.end(), more.begin(), more.end());
  return some;
}

}  // namespace

TEST_CASE("a validation file is what is validated on, and all of the data is learnt") {
  const Workplace work;
  const std::string valid = work.folder.write("valid.txt", "The fox sleeps.\nA hen jumps.\n");
  const std::vector<std::string> options = {"--max-steps", "4", "--validation-file", valid};
  const ProgramResult run = run_quire(work.command("out", options));
  INFO(run.err);
  REQUIRE(run.exit_code == 0);
  CHECK(contains(run.err, "data        300 records, "));
  CHECK(contains(run.err, "; to validate on 2 records, "));
  CHECK_FALSE(contains(run.err, "--validation-split"));
  CHECK(contains(file(work.folder / "out", "README.md"), "- `valid.txt`, to validate on\n"));
  const Json saved = parse_json<Json>(file(work.folder / "out", "quire_config.json"));
  CHECK(saved["validation_file"] == Json({valid}));
  CHECK_FALSE(saved.contains("validation_split"));

  // The saved options make the same model; a share beside it is said to be unused.
  const ProgramResult again =
      run_quire({"train", "--config-file", work.folder / "out/quire_config.json", "--output-dir",
                 work.folder / "again", "--validation-split", "0.5"});
  CHECK(again.exit_code == 0);
  CHECK(contains(again.err, "--validation-split is not used"));
  for (const std::string& name : kWritten) {
    CHECK(file(work.folder / "out", name) == file(work.folder / "again", name));
  }
}

TEST_CASE("a validation file inside the folder of the data is left out of it") {
  const Workplace work;
  work.folder.write("set/a.txt", read_file(work.text));
  const std::string valid = work.folder.write("set/valid.txt", "The fox sleeps.\n");
  const auto train = [&](const std::string& data, const std::string& validation) {
    return run_quire({"train", "--config", work.config, "--tokenizer", work.tokenizer, "--data",
                      data, "--line-by-line", "--validation_file", validation, "--max-steps", "1",
                      "--output-dir", work.folder / "out"});
  };
  const ProgramResult run = train(work.folder / "set", valid);
  INFO(run.err);
  REQUIRE(run.exit_code == 0);
  CHECK(contains(run.err, "1 file of --data is not learnt from: --validation-file names it\n"));
  CHECK(contains(run.err, "data        300 records, "));

  fs::remove_all(work.folder / "out");
  const auto refused = [&](const std::string& data, const std::string& validation, int code,
                           const std::string& why) {
    const ProgramResult wrong = train(data, validation);
    INFO(wrong.err);
    CHECK(wrong.exit_code == code);
    CHECK(contains(wrong.err, why));
  };
  refused(valid, work.folder / "set", 2, "nothing is left to learn");
  refused(valid, work.folder / "none.txt", 3, "none.txt");
  refused(work.text, work.folder.write("empty.txt", ""), 3, "empty.txt holds no text");
}

TEST_CASE("a resumed run remembers its validation file") {
  const Workplace work;
  const std::string valid = work.folder.write("valid.txt", "The fox sleeps.\nA hen jumps.\n");
  const std::vector<std::string> options = {"--max-steps", "8", "--eval-steps", "2"};
  const std::vector<std::string> named = with(options, {"--validation-file", valid});
  REQUIRE(run_quire(work.command("straight", named)).exit_code == 0);
  REQUIRE(run_quire(work.command("cut", with(named, {"--stop-at-step", "4"}))).exit_code == 0);
  const std::vector<std::string> resume = with(options, {"--resume-from-checkpoint", "latest"});

  const ProgramResult split =
      run_quire(work.command("cut", with(resume, {"--validation-split", "0.1"})));
  CHECK(split.exit_code == 2);
  CHECK(contains(split.err, "validation data"));

  const ProgramResult resumed = run_quire(work.command("cut", resume));
  INFO(resumed.err);
  REQUIRE(resumed.exit_code == 0);
  CHECK(contains(resumed.err, "as the run began: --validation-file " + valid + "\n"));
  for (const std::string& name : kWritten) {
    INFO(name);
    CHECK(file(work.folder / "straight", name) == file(work.folder / "cut", name));
  }
}

TEST_CASE("the columns of --data are those of the validation file") {
  const Workplace work;
  const std::string table = work.folder.write("t.csv", "a;b\nThe fox;jumps\nThe hen;sleeps\n");
  const std::string valid = work.folder.write("v.csv", "a;b\nThe dog;jumps\n");
  const auto run = [&](const std::string& validation) {
    return run_quire({"train",
                      "--config",
                      work.config,
                      "--tokenizer",
                      work.tokenizer,
                      "--data",
                      table,
                      "--validation-file",
                      validation,
                      "--template",
                      "{a} => {b}",
                      "--output-dir",
                      work.folder / "out",
                      "--max-steps",
                      "1",
                      "--batch-size",
                      "1",
                      "--max-length",
                      "8",
                      "--overwrite-output-dir"});
  };
  const ProgramResult good = run(valid);
  INFO(good.err);
  CHECK(good.exit_code == 0);
  CHECK(contains(good.err, "to validate on 1 record, "));
  const ProgramResult bad = run(work.folder.write("w.csv", "a;c\nThe dog;jumps\n"));
  CHECK(bad.exit_code == 3);
  CHECK(contains(bad.err, "has no column 'b'"));
}

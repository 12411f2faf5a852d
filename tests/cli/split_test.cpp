// --split: commands that work on the part of its data that a training run held out.
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "base/json.h"
#include "tests/cli/train_workplace.h"
#include "tests/support/catch.h"

using namespace quire;
using namespace quire::test;
namespace fs = std::filesystem;
using Json = nlohmann::json;

namespace {

std::vector<Json> lines_of_json(const std::string& text) {
  std::istringstream lines(text);
  std::vector<Json> all;
  for (std::string line; std::getline(lines, line);) all.push_back(parse_json<Json>(line));
  return all;
}

/// The validation losses of a run, the first and the last.
std::pair<double, double> eval_losses(const fs::path& run) {
  std::vector<double> losses;
  for (const Json& line : lines_of_json(read_file(run / "log.jsonl"))) {
    if (line.contains("eval_loss")) losses.push_back(line["eval_loss"]);
  }
  return {losses.front(), losses.back()};
}

Json evaluated(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), "eval");
  arguments.emplace_back("--json");
  const ProgramResult result = run_quire(arguments);
  INFO(result.err);
  REQUIRE(result.exit_code == 0);
  return parse_json<Json>(result.out);
}

/// Runs on a table of names and faces, of which `share` is held out.
struct Table {
  Workplace work;
  std::string table;

  Table() {
    std::string rows = "name,face\n";
    for (int i = 0; i < 40; ++i)
      rows += "fox " + std::to_string(i) + ",\":\n" + std::to_string(i % 7) + "\"\n";
    table = work.folder.write("t.csv", rows);  // of two lines each
  }
  std::string train(const std::string& name, const std::string& share,
                    const std::vector<std::string>& more = {}) const {
    std::vector<std::string> arguments = {"train",
                                          "--config",
                                          work.config,
                                          "--tokenizer",
                                          work.tokenizer,
                                          "--data",
                                          table,
                                          "--template",
                                          "{name} => {face}",
                                          "--packing",
                                          "none",
                                          "--lr",
                                          "1e-2",
                                          "--max-steps",
                                          "3",
                                          "--eval-steps",
                                          "3",
                                          "--batch-size",
                                          "4",
                                          "--validation-split",
                                          share,
                                          "--output-dir",
                                          work.folder / name};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const ProgramResult result = run_quire(arguments);
    INFO(result.err);
    REQUIRE(result.exit_code == 0);
    return work.folder / name;
  }
};

}  // namespace

TEST_CASE("eval of what a run held out gives the losses of its log, before and after") {
  const Table t;
  const std::string base = t.train("base", "0.25");
  for (const std::string loss_on : {"all", "completion"}) {
    INFO(loss_on);
    const std::string run = t.work.folder / ("run-" + loss_on);
    const ProgramResult trained = run_quire({"train",
                                             "--model",
                                             base,
                                             "--data",
                                             t.table,
                                             "--template",
                                             "{name} => {face}",
                                             "--packing",
                                             "none",
                                             "--block-size",
                                             "30",
                                             "--loss-on",
                                             loss_on,
                                             "--validation-split",
                                             "0.25",
                                             "--eval-steps",
                                             "3",
                                             "--max-steps",
                                             "3",
                                             "--lr",
                                             "1e-2",
                                             "--seed",
                                             "5",
                                             "--output-dir",
                                             run});
    INFO(trained.err);
    REQUIRE(trained.exit_code == 0);
    const auto [before, after] = eval_losses(run);
    const Json held_out = evaluated({"--model", run, "--baseline", base, "--split", "validation"});
    // A record is a row of its own in both. 1e-5: 10 of float's roundings of losses around 6.
    CHECK(std::abs(held_out["loss"].get<double>() - after) < 1e-5);
    CHECK(std::abs(held_out["baseline"]["loss"].get<double>() - before) < 1e-5);
    CHECK(held_out["scored"] == held_out["baseline"]["scored"]);

    CHECK(held_out["window"] == 30);  // a row of the run, not the context

    // The two parts are the whole; the run may be another one than the model's.
    const Json learned = evaluated({"--model", base, "--run", run, "--split", "train"});
    CHECK(learned["tokens"].get<int>() > 2 * held_out["tokens"].get<int>());
    if (loss_on == "completion") {
      CHECK(held_out["scored"].get<int>() < held_out["tokens"].get<int>() / 2);
    } else {
      CHECK(held_out["scored"] ==
            held_out["tokens"].get<int>() - 10);  // the first of each has none
    }
  }
}

TEST_CASE("completions and requests of what a run held out are of these rows alone") {
  const Table t;
  const std::string run = t.train("run", "0.25", {"--seed", "9"});
  const Json held_out = evaluated({"--model", run, "--split", "validation", "--completions", "2"});
  CHECK(held_out["records"] == 10);

  std::set<std::string> names;
  for (const auto& [split, rows] : {std::pair{"validation", 10}, std::pair{"train", 30}}) {
    const ProgramResult asked = run_quire(
        {"generate", "--model", run, "--requests", t.table, "--split", split, "-n", "2", "--json"});
    INFO(asked.err);
    REQUIRE(asked.exit_code == 0);
    const std::vector<Json> answers = lines_of_json(asked.out);
    CHECK(std::ssize(answers) == rows);
    for (const Json& answer : answers) names.insert(answer["name"].get<std::string>());
  }
  CHECK(names.size() == 40);

  // Of a file that the run was told to validate on: all of it.
  const std::string file = t.work.folder.write("v.csv", "name,face\nfox 1,:1\nhen 2,:2\n");
  const std::string separate = t.train("separate", "0", {"--validation-file", file});
  CHECK(evaluated(
            {"--model", separate, "--split", "validation", "--completions", "2"})["records"] == 2);
  CHECK(evaluated({"--model", separate, "--split", "train", "--completions", "2"})["records"] ==
        40);
}

TEST_CASE("a part that there is not is refused with the reason") {
  const Table t;
  const std::string run = t.train("run", "0");
  const auto refused = [&](std::vector<std::string> arguments, const std::string& why) {
    const ProgramResult result = run_quire(arguments);
    INFO(result.err);
    CHECK(result.exit_code == 2);
    CHECK(contains(result.err, why));
  };
  refused({"eval", "--model", run, "--split", "validation"}, "held nothing out");
  refused({"eval", "--model", "narrator", "--split", "validation"},
          "--split is of a training run, and narrator is none");
  refused({"eval", "--model", run, "--run", run, "--data", t.table}, "--run wants --split");
  refused({"eval", "--model", run, "--split", "train", "--text-column", "name"},
          "--text-column does not go with --split");
  const std::string other = t.work.folder.write("o.csv", "name,face\nhen,:)\n");
  refused({"generate", "--model", run, "--requests", other, "--split", "train"},
          "has no rows that the run in " + run + " learned from");
  refused({"generate", "--model", run, "--keywords", "fox", "--split", "train"},
          "--requests FILE.csv");
  refused({"eval", "--model", run, "--baseline", "narrator", "--split", "train"},
          "narrator has another tokenizer than the run");

  const ProgramResult prepared =
      run_quire({"data", "prepare", t.table, "--template", "{name} => {face}", "--tokenizer",
                 t.work.tokenizer, "-o", t.work.folder / "shards"});
  INFO(prepared.err);
  REQUIRE(prepared.exit_code == 0);
  const ProgramResult trained = run_quire(
      {"train", "--model", run, "--data", t.work.folder / "shards", "--max-steps", "1", "--packing",
       "none", "--validation-split", "0.25", "--output-dir", t.work.folder / "of-shards"});
  INFO(trained.err);
  REQUIRE(trained.exit_code == 0);
  const std::string of_shards = t.work.folder / "of-shards";
  CHECK(evaluated({"--model", of_shards, "--split", "validation"})["scored"] > 0);
  refused({"eval", "--model", of_shards, "--split", "validation", "--completions", "2"},
          "shards, which hold no text");
}

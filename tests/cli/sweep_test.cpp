// quire sweep, run as a user would.
#include <csignal>
#include <nlohmann/json.hpp>
#include <sstream>

#include "base/file.h"
#include "base/json.h"
#include "tests/cli/program.h"
#include "tests/support/catch.h"
#include "tests/support/fixtures.h"
#include "tokenizer/tokenizer.h"

using namespace quire;
using namespace quire::test;
namespace fs = std::filesystem;

namespace {

/// Data and options for runs of a few milliseconds a step.
struct SweepWorkplace {
  ScratchFolder folder;
  nlohmann::ordered_json train;

  SweepWorkplace() {
    std::string lines;
    for (int i = 0; i < 120; ++i) {
      lines += "The fox number " + std::to_string(i * 37 % 101) + " jumps over " +
               (i % 3 == 0 ? "the lazy dog.\n" : "a quick brown hen, and sleeps.\n");
    }
    const fs::path text = folder.write("text.txt", lines);
    train_bpe({&text, 1}, {.vocab_size = 300}).save(folder / "tokenizer", 32);
    train = {{"config", folder
                            .write("config.json", R"({"n_layer": 1, "n_head": 2, "n_embd": 16,
                                                        "n_positions": 32})")
                            .string()},
             {"tokenizer", (folder / "tokenizer").string()},
             {"data", text.string()},
             {"line_by_line", true},
             {"max_steps", 4}};
  }

  std::string file(const nlohmann::ordered_json& sweep) const {
    return folder.write("sweep.json", json_text(sweep)).string();
  }
  ProgramResult run(const nlohmann::ordered_json& sweep, const std::string& out,
                    std::vector<std::string> more = {}) const {
    more.insert(more.begin(), {"sweep", file(sweep), "--output-dir", folder / out});
    return run_quire(more);
  }
  std::string read(const std::string& name) const { return read_file(folder / name); }
  /// Whether two models have the same bytes.
  bool alike(const std::string& a, const std::string& b) const {
    return read(a + "/model.safetensors") == read(b + "/model.safetensors");
  }
};

std::vector<nlohmann::ordered_json> lines_of(const std::string& text) {
  std::vector<nlohmann::ordered_json> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);)
    lines.push_back(parse_json<nlohmann::ordered_json>(line));
  return lines;
}

}  // namespace

TEST_CASE("a sweep ranks its runs, and best.json makes the best model again") {
  const SweepWorkplace work;
  const nlohmann::ordered_json sweep = {
      {"method", "grid"},
      {"train", work.train},
      {"search", {{"lr", {1e-2, 1e-5}}, {"weight_decay", {0.0, 0.1}}}},
      {"parallel", 2}};
  const ProgramResult result = work.run(sweep, "out");
  INFO(result.err);
  REQUIRE(result.exit_code == 0);
  CHECK(contains(result.out, "eval_loss"));
  CHECK(contains(result.out, "run-004"));
  CHECK(contains(result.err, "best: run-00"));
  CHECK(contains(result.err, "train --config-file"));
  for (const char* name : {"sweep.csv", "sweep.svg", "best.json", "run-001/train.log",
                           "run-004/model/log.jsonl", "run-004/model/model.safetensors"}) {
    INFO(name);
    CHECK(fs::exists(work.folder / "out" / name));
  }
  CHECK_FALSE(fs::exists(work.folder / "out/run-001/model/checkpoint-4"));

  // Everything is made: the same command tells the same without a run, here as JSON.
  const std::string log = work.read("out/run-001/train.log");
  const ProgramResult again = work.run(sweep, "out", {"--json"});
  REQUIRE(again.exit_code == 0);
  CHECK(work.read("out/run-001/train.log") == log);
  const std::vector<nlohmann::ordered_json> rows = lines_of(again.out);
  REQUIRE(rows.size() == 4);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    CHECK(rows[i]["rank"] == i + 1);
    CHECK(rows[i]["status"] == "done");
    if (i > 0) CHECK(rows[i]["eval_loss"].get<double>() >= rows[i - 1]["eval_loss"].get<double>());
  }
  CHECK(rows[0]["options"]["learning_rate"] == 1e-2);
  CHECK(contains(again.err, "4 of 4 runs have a result"));

  const std::string best = rows[0]["run"];
  REQUIRE(run_quire({"train", "--config-file", work.folder / "out/best.json", "--output-dir",
                     work.folder / "best", "--quiet"})
              .exit_code == 0);
  CHECK(work.alike("best", "out/" + best + "/model"));
}

TEST_CASE("halving: the winner is the model that its options make in one go") {
  const SweepWorkplace work;
  nlohmann::ordered_json train = work.train;
  train["max_steps"] = 9;
  train["lr_scheduler_type"] = "cosine";
  const nlohmann::ordered_json sweep = {
      {"method", "halving"},
      {"train", train},
      {"search", {{"learning_rate", {{"log_min", 1e-5}, {"log_max", 1e-1}}}}},
      {"runs", 9},
      {"seed", 3}};
  const ProgramResult result = work.run(sweep, "out", {"--json"});
  INFO(result.err);
  REQUIRE(result.exit_code == 0);
  const std::vector<nlohmann::ordered_json> rows = lines_of(result.out);
  REQUIRE(rows.size() == 9);
  std::vector<int> rounds;
  for (const nlohmann::ordered_json& row : rows) {
    const int round = row["round"];
    rounds.push_back(round);
    CHECK(row["step"] == (round == 1 ? 1 : round == 2 ? 3 : 9));
  }
  CHECK(rounds == std::vector<int>{3, 2, 2, 1, 1, 1, 1, 1, 1});
  const std::string best = rows[0]["run"];
  REQUIRE(run_quire({"train", "--config-file", work.folder / "out/best.json", "--output-dir",
                     work.folder / "best", "--quiet"})
              .exit_code == 0);
  CHECK(work.alike("best", "out/" + best + "/model"));
  CHECK(contains(work.read("out/" + best + "/train.log"), "going on from"));

  // A run that was stopped early had got as far as it does in one go.
  REQUIRE(run_quire({"train", "--config-file",
                     work.folder / "out" / rows[1]["run"].get<std::string>() / "options.json",
                     "--output-dir", work.folder / "second", "--quiet"})
              .exit_code == 0);
  double at_step_3 = 0;
  for (const nlohmann::ordered_json& line : lines_of(work.read("second/log.jsonl"))) {
    if (line["step"] == 3 && line.contains("eval_loss")) at_step_3 = line["eval_loss"];
  }
  CHECK(rows[1]["eval_loss"] == at_step_3);
}

TEST_CASE("an interrupted sweep goes on where it was, and ends the same") {
  const SweepWorkplace work;
  nlohmann::ordered_json train = work.train;
  train["max_steps"] = 3000;
  train["logging_steps"] = 1;
  train["eval_steps"] = 3000;
  nlohmann::ordered_json sweep = {
      {"method", "grid"}, {"train", train}, {"search", {{"seed", {1, 2}}}}};
  const std::string out = work.folder / "out";
  const fs::path log = fs::path(out) / "run-001/model/log.jsonl";
  {
    Program program({"sweep", work.file(sweep), "--output-dir", out});
    REQUIRE(program.wait_for_file(log, 2000));  // a dozen steps
    program.send(SIGINT);
    const ProgramResult result = program.wait();
    INFO(result.err);
    CHECK(result.exit_code == 130);
    CHECK(contains(result.err, "0 of 2 runs have a result"));
    CHECK(contains(result.err, "try: the same command again"));
  }
  CHECK_FALSE(fs::exists(fs::path(out) / "run-001/result.json"));
  CHECK_FALSE(fs::exists(fs::path(out) / "run-002/model"));
  CHECK(contains(work.read("out/run-001/train.log"), "interrupted after step"));

  // Another sweep is not mixed into it. This one goes on from the checkpoint.
  nlohmann::ordered_json other = sweep;
  other["search"] = {{"seed", {1, 3}}};
  const ProgramResult refused = work.run(other, "out");
  CHECK(refused.exit_code == 2);
  CHECK(contains(refused.err, "has another sweep"));
  const ProgramResult resumed = work.run(sweep, "out");
  INFO(resumed.err);
  CHECK(resumed.exit_code == 0);
  CHECK(contains(work.read("out/run-001/train.log"), "going on from"));
  REQUIRE(run_quire({"train", "--config-file", work.folder / "out/run-001/options.json",
                     "--output-dir", work.folder / "straight", "--quiet"})
              .exit_code == 0);
  CHECK(work.alike("straight", "out/run-001/model"));

  sweep["train"]["max_steps"] = 2;
  const ProgramResult anew = work.run(sweep, "out", {"--overwrite-output-dir", "--json"});
  INFO(anew.err);
  CHECK(anew.exit_code == 0);
  CHECK(lines_of(anew.out)[0]["step"] == 2);
}

TEST_CASE("a run that diverges is the worst, one that fails is named with its error") {
  const SweepWorkplace work;
  nlohmann::ordered_json train = work.train;
  train["max_grad_norm"] = 0;
  train["max_steps"] = 9;
  train.erase("config");
  const std::string wide = work.folder.write(
      "wide.json", R"({"n_layer": 1, "n_head": 3, "n_embd": 16, "n_positions": 32})");
  const nlohmann::ordered_json configs = {work.train["config"], wide};
  const nlohmann::ordered_json sweep = {
      {"method", "grid"},
      {"train", train},
      {"search", {{"config", configs}, {"learning_rate", {1e30, 1e-3}}}}};
  const ProgramResult result = work.run(sweep, "out", {"--json"});
  INFO(result.err);
  CHECK(result.exit_code == 0);
  const std::vector<nlohmann::ordered_json> rows = lines_of(result.out);
  REQUIRE(rows.size() == 4);
  CHECK(rows[0]["status"] == "done");
  CHECK(rows[0]["options"]["learning_rate"] == 1e-3);
  CHECK(rows[1]["status"] == "diverged");
  CHECK(rows[1]["eval_loss"].is_null());
  CHECK(rows[2]["status"] == "failed");
  CHECK(contains(result.err, "warning: run-003 failed: "));
  CHECK(contains(result.err, "n_head"));
  CHECK(contains(result.err, "run-003/train.log"));

  // A run that failed is tried again, when its cause is gone.
  work.folder.write("wide.json", R"({"n_layer": 1, "n_head": 4, "n_embd": 16, "n_positions": 32})");
  const ProgramResult again = work.run(sweep, "out", {"--json"});
  CHECK(again.exit_code == 0);
  const std::vector<nlohmann::ordered_json> repaired = lines_of(again.out);
  CHECK(repaired[1]["status"] == "done");
  CHECK(repaired[3]["status"] == "diverged");

  nlohmann::ordered_json hopeless = sweep;
  hopeless["search"] = {{"learning_rate", {1e30}}};
  hopeless["train"]["config"] = work.train["config"];
  const ProgramResult diverged = work.run(hopeless, "none");
  INFO(diverged.err);
  CHECK(diverged.exit_code == 6);
  CHECK(contains(diverged.err, "error: all 1 runs diverged"));
}

TEST_CASE("what cannot be swept is refused before a folder is made") {
  const SweepWorkplace work;
  const nlohmann::ordered_json sweep = {
      {"method", "grid"}, {"train", work.train}, {"search", {{"lr", {1e-3, -1.0}}}}};
  const ProgramResult negative = work.run(sweep, "out");
  INFO(negative.err);
  CHECK(negative.exit_code == 2);
  CHECK(contains(negative.err, "--learning-rate is -1"));
  CHECK(contains(negative.err, "sweep.json"));
  CHECK_FALSE(fs::exists(work.folder / "out"));
  nlohmann::ordered_json typo = sweep;
  typo["search"] = {{"learning_rat", {1e-3}}};
  const ProgramResult unknown = work.run(typo, "out");
  CHECK(unknown.exit_code == 2);
  CHECK(contains(unknown.err, "sweep.json, \"search\""));
  CHECK(contains(unknown.err, "did you mean --learning-rate?"));
  CHECK(run_quire({"sweep", work.folder / "none.json", "--output-dir", work.folder / "out"})
            .exit_code == 3);
  CHECK(run_quire({"sweep", work.file(sweep)}).exit_code == 2);
  CHECK(run_quire({"sweep"}).exit_code == 2);

  nlohmann::ordered_json fine = sweep;
  fine["search"] = {{"lr", {1e-3}}};
  work.folder.write("used/notes.txt", "mine");
  const ProgramResult used = work.run(fine, "used", {"--overwrite-output-dir"});
  CHECK(used.exit_code == 2);
  CHECK(work.read("used/notes.txt") == "mine");
  const ProgramResult dry = work.run(fine, "dry", {"--dry-run"});
  CHECK(dry.exit_code == 0);
  CHECK(dry.out == "run-001  learning_rate 0.001\n");
  CHECK_FALSE(fs::exists(work.folder / "dry"));
}

TEST_CASE("a sweep trains on shards as train does, and refuses a folder that was not finished") {
  const SweepWorkplace work;
  const std::string shards = (work.folder / "shards").string();
  REQUIRE(run_quire({"data", "prepare", work.train["data"].get<std::string>(), "--line-by-line",
                     "--tokenizer", work.folder / "tokenizer", "-o", shards})
              .exit_code == 0);
  nlohmann::ordered_json sweep = {
      {"method", "grid"}, {"train", work.train}, {"search", {{"lr", {1e-2, 1e-3}}}}};
  const ProgramResult on_text = work.run(sweep, "text", {"--json"});
  sweep["train"]["data"] = shards;
  sweep["train"].erase("line_by_line");
  const ProgramResult on_shards = work.run(sweep, "on-shards", {"--json"});
  INFO(on_text.err << on_shards.err);
  REQUIRE(on_shards.exit_code == 0);
  const auto losses = [](const ProgramResult& result) {
    std::vector<double> all;
    for (const nlohmann::ordered_json& line : lines_of(result.out))
      all.push_back(line["eval_loss"]);
    return all;
  };
  CHECK(losses(on_shards).size() == 2);
  CHECK(losses(on_shards) == losses(on_text));

  fs::remove(fs::path(shards) / "manifest.json");
  const ProgramResult unfinished = work.run(sweep, "unfinished");
  CHECK(unfinished.exit_code == 3);
  CHECK_FALSE(fs::exists(work.folder / "unfinished"));
}

TEST_CASE("the sweep of the samples has options that train takes") {
  const fs::path source = test_data("../..");
  const ProgramResult dry =
      run_quire({"sweep", "samples/sweep.json", "--dry-run"}, {.folder = source});
  INFO(dry.err);
  CHECK(dry.exit_code == 0);
  CHECK(std::count(dry.out.begin(), dry.out.end(), '\n') == 9);
}

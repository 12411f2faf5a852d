// What quire train shows, records and guards against, run as a user would.
#include <filesystem>
#include <nlohmann/json.hpp>
#include <sstream>

#include "base/json.h"
#include "cli/terminal.h"
#include "tests/cli/train_workplace.h"
#include "tests/support/catch.h"

using namespace quire;
using namespace quire::test;
namespace fs = std::filesystem;

TEST_CASE("a run whose time is up ends well, and goes on to the bytes of one without a limit") {
  const Workplace work;
  const std::vector<std::string> options = {"--max-steps", "6", "--save-steps", "3"};
  REQUIRE(run_quire(work.command("straight", options)).exit_code == 0);
  std::vector<std::string> limited = options;
  limited.insert(limited.end(), {"--max-time", "0.000001s"});
  const ProgramResult cut = run_quire(work.command("cut", limited));
  INFO(cut.err);
  CHECK(cut.exit_code == 0);
  CHECK(contains(cut.err, "the time is up after step 1 of 6"));
  CHECK(contains(cut.err, "--resume-from-checkpoint latest"));
  CHECK(fs::exists(work.folder / "cut/model.safetensors"));
  CHECK(fs::exists(work.folder / "cut/checkpoint-1/optimizer.safetensors"));

  std::vector<std::string> resume = options;
  resume.insert(resume.end(), {"--resume-from-checkpoint", "latest", "--max-time", "1h"});
  const ProgramResult resumed = run_quire(work.command("cut", resume));
  INFO(resumed.err);
  CHECK(resumed.exit_code == 0);
  for (const char* name : {"model.safetensors", "checkpoint-6/optimizer.safetensors",
                           "checkpoint-6/trainer_state.json", "quire_config.json"}) {
    INFO(name);
    CHECK(file(work.folder / "straight", name) == file(work.folder / "cut", name));
  }
}

TEST_CASE("a run says what it will take, and takes the steps that fit where that is asked for") {
  const Workplace work;
  const ProgramResult quick = run_quire(work.command("quick", {"--max-steps", "6"}));
  INFO(quick.err);
  CHECK(contains(quick.err, "  time        about "));
  CHECK(contains(quick.err, ": 6 steps of "));
  CHECK(quick.err.find("  time  ") < quick.err.find("step 0: validation"));
  CHECK_FALSE(contains(quick.err, "--max-time"));

  const std::vector<std::string> long_run = {"--max-steps", "1000000",    "--lr-scheduler-type",
                                             "cosine",      "--max-time", "0.000001s"};
  std::vector<std::string> fitted = long_run;
  fitted.insert(fitted.end(), {"--fit-to-time", "--json"});
  const ProgramResult result = run_quire(work.command("fitted", fitted));
  INFO(result.out);
  REQUIRE(result.exit_code == 0);
  nlohmann::json estimate, last_log;
  std::istringstream lines(result.out);
  for (std::string line; std::getline(lines, line);) {
    const nlohmann::json event = parse_json<nlohmann::json>(line);
    if (event["event"] == "estimate") estimate = event;
    if (event["event"] == "log") last_log = event;
  }
  CHECK(estimate["asked_steps"] == 1'000'000);
  CHECK(estimate["steps"] == 1);
  CHECK(last_log["total_steps"] == 1);
  // A configuration that makes the model again says nothing of the time it was given.
  CHECK_FALSE(contains(file(work.folder / "fitted", "quire_config.json"), "_time"));

  std::vector<std::string> cut = long_run;
  cut.insert(cut.end(), {"--max-time", "1s"});
  const ProgramResult told = run_quire(work.command("cut", cut));
  INFO(told.err);
  CHECK(contains(told.err, "--fit-to-time takes the steps that fit"));
  CHECK(contains(told.err, "the time is up after step "));
}

TEST_CASE("validation takes a tenth of a run, unless its steps are named") {
  const Workplace work;
  std::vector<std::string> options = {"--max-steps", "4", "--validation-split", "0.5"};
  const ProgramResult bounded = run_quire(work.command("bounded", options));
  INFO(bounded.err);
  // 8 rows a step, 3 · 32 of them in all: 10.67 rows forward, 5 before and 5 after.
  CHECK(contains(bounded.err, "a validation takes 5 of 80 held-out rows"));
  options.insert(options.end(), {"--eval-steps", "2"});
  const ProgramResult named = run_quire(work.command("named", options));
  INFO(named.err);
  CHECK_FALSE(contains(named.err, "a validation takes"));
  CHECK(count_of(named.err, ": validation loss") == 3 + 1);  // the last line has it, too
}

TEST_CASE("a run that diverges exits with 6 and names a checkpoint from which it goes on") {
  const Workplace work;
  const std::vector<std::string> options = {
      "--save-steps", "1", "--save-total-limit", "1", "--lr-scheduler-type", "constant"};
  std::vector<std::string> good = options;
  good.insert(good.end(), {"--max-steps", "3"});
  REQUIRE(run_quire(work.command("out", good)).exit_code == 0);
  std::vector<std::string> wild = options;
  wild.insert(wild.end(), {"--max-steps", "9", "--lr", "1e30", "--max-grad-norm", "0",
                           "--resume-from-checkpoint", "latest"});
  const ProgramResult diverged = run_quire(work.command("out", wild));
  INFO(diverged.err);
  CHECK(diverged.exit_code == 6);
  CHECK(count_of(diverged.err, "is skipped: its loss is") == 3);
  CHECK(count_of(diverged.err, "warning: step") >= 3);
  const std::string checkpoint = (work.folder / "out/checkpoint-3").string();
  CHECK(contains(diverged.err, "the last good checkpoint is " + checkpoint));
  CHECK(contains(diverged.err, "try: --resume-from-checkpoint " + checkpoint));
  CHECK(contains(file(work.folder / "out", "log.jsonl"), "\"warning\":\"step 5 is skipped"));

  std::vector<std::string> again = options;
  again.insert(again.end(), {"--max-steps", "9", "--resume-from-checkpoint", checkpoint});
  const ProgramResult resumed = run_quire(work.command("out", again));
  INFO(resumed.err);
  CHECK(resumed.exit_code == 0);
  CHECK_FALSE(contains(file(work.folder / "out", "log.jsonl"), "is skipped"));
}

TEST_CASE("samples, logs and the report are made of one run, and do not change it") {
  const Workplace work;
  const std::vector<std::string> options = {"--max-steps", "10", "--eval-steps", "5"};
  REQUIRE(run_quire(work.command("plain", options)).exit_code == 0);
  std::vector<std::string> more = options;
  more.insert(more.end(), {"--sample-every", "5", "--sample-prompt", "The fox", "--sample-prompt",
                           "A <quick>", "--report-to", "csv,html", "--weight-decay", "0"});
  const ProgramResult run = run_quire(work.command("out", more));
  INFO(run.err);
  REQUIRE(run.exit_code == 0);
  CHECK(file(work.folder / "out", "model.safetensors") ==
        file(work.folder / "plain", "model.safetensors"));
  CHECK(file(work.folder / "out", "checkpoint-10/trainer_state.json") ==
        file(work.folder / "plain", "checkpoint-10/trainer_state.json"));
  CHECK(count_of(run.err, "from \"The fox\":\n  The fox") == 3);  // at 0, 5 and 10

  int samples = 0, losses = 0;
  for (const nlohmann::json& entry : json_lines(file(work.folder / "out", "log.jsonl"))) {
    samples += entry.contains("sample") ? 1 : 0;
    if (!entry.contains("loss")) continue;
    ++losses;
    CHECK(entry["mfu"].get<double>() > 0);
    CHECK(entry["mfu"].get<double>() <= 1);
  }
  CHECK(samples == 6);
  CHECK(losses == 2);
  // A heading, a row for each of two lines of the log and three evaluations.
  CHECK(count_of(file(work.folder / "out", "log.csv"), "\n") == 6);

  const std::string page = file(work.folder / "out", "report.html");
  for (const char* part : {"<h2>Loss</h2>", "<h2>Learning rate</h2>", "<h2>Tokens a second</h2>",
                           "<h2>Samples by step</h2>", "A &lt;quick&gt;", "max_steps", "MFU",
                           ": validation loss ", "Done, at step 10."}) {
    INFO(part);
    CHECK(contains(page, part));
  }
  // What was asked for stands in the first table, what nobody touched only in the second.
  const std::size_t all = page.find("All options");
  REQUIRE(all != std::string::npos);
  const std::string set = page.substr(0, all);
  CHECK(contains(set, "<td>max_steps</td><td>10</td>"));
  CHECK(contains(set, "<td>sample_prompt</td>"));
  CHECK(contains(set, "<td>weight_decay</td>"));  // given, though as it would be
  CHECK_FALSE(contains(set, "<td>adam_beta1</td>"));
  CHECK(contains(page.substr(all), "<td>adam_beta1</td>"));
  CHECK_FALSE(fs::exists(work.folder / "plain/report.html"));
  CHECK_FALSE(fs::exists(work.folder / "plain/log.csv"));
}

TEST_CASE("with --json samples and warnings are events") {
  const Workplace work;
  // Without a rate the loss only wanders from batch to batch, to both sides of its mean.
  const ProgramResult run =
      run_quire(work.command("out", {"--max-steps", "40", "--json", "--sample-every", "40", "--lr",
                                     "0", "--spike-z", "0.5"}));
  INFO(run.err);
  REQUIRE(run.exit_code == 0);
  int samples = 0, warnings = 0;
  for (const nlohmann::json& event : json_lines(run.out)) {
    samples += event["event"] == "sample" ? 1 : 0;
    warnings += event["event"] == "warning" ? 1 : 0;
  }
  CHECK(samples == 2);
  CHECK(warnings > 0);
}

TEST_CASE("times, samples and reports that make no sense are refused") {
  const Workplace work;
  const auto fails = [&](const std::vector<std::string>& arguments, const std::string& cause) {
    const ProgramResult run = run_quire(work.command("out", arguments));
    INFO(run.err);
    CHECK(run.exit_code == 2);
    CHECK(contains(run.err, cause));
  };
  fails({"--fit-to-time"}, "--fit-to-time is given without --max-time");
  fails({"--max-time", "soon"}, "--max-time is 'soon'");
  fails({"--sample-prompt", "The"}, "--sample-prompt without --sample-every");
  fails({"--report-to", "jsonl,wandb"}, "there is no --report-to 'wandb'");
  fails({"--report-to", "jsonl,none"}, "none does not go with others");
  std::string longest = "fox";
  for (int i = 0; i < 40; ++i) longest += " fox";
  fails({"--sample-every", "5", "--sample-prompt", longest}, "--sample-prompt \"fox");
}

TEST_CASE("times are read in days, hours, minutes and seconds") {
  CHECK(parse_duration("--max-time", "90s") == 90);
  CHECK(parse_duration("--max-time", "30m") == 1800);
  CHECK(parse_duration("--max-time", "1.5h") == 5400);
  CHECK(parse_duration("--max-time", "1h30m") == 5400);
  CHECK(parse_duration("--max-time", "2") == 7200);
  CHECK(parse_duration("--max-time", "1d1s") == 86401);
  for (const char* text : {"", "0", "-1h", "1h30", "h", "5 m", "3x", "inf", "1e400", "0h5"}) {
    INFO(text);
    CHECK_THROWS_AS(parse_duration("--max-time", text), Error);
  }
}

#ifdef QUIRE_WITH_TENSORBOARD

TEST_CASE("quire train writes events for TensorBoard") {
  const Workplace work;
  const ProgramResult run =
      run_quire(work.command("out", {"--max-steps", "5", "--report-to", "tensorboard"}));
  INFO(run.err);
  REQUIRE(run.exit_code == 0);
  const std::string events = file(work.folder / "out", "tensorboard/events.out.tfevents.quire");
  for (const char* part : {"brain.Event:2", "max_steps", "train/loss", "train/mfu", "eval/loss"}) {
    INFO(part);
    CHECK(contains(events, part));
  }
  CHECK_FALSE(fs::exists(work.folder / "out/log.jsonl"));
}

#else

TEST_CASE("a build without protobuf refuses TensorBoard and says what it wants") {
  const Workplace work;
  const ProgramResult run = run_quire(work.command("out", {"--report-to", "tensorboard"}));
  INFO(run.err);
  CHECK(run.exit_code == 2);
  CHECK(contains(run.err, "libprotobuf-dev, protobuf-compiler"));
}

#endif

// quire eval --completions: a model that has learned a table completes it.
#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/json.h"
#include "tests/cli/program.h"
#include "tests/support/catch.h"
#include "tests/support/scratch.h"
#include "tokenizer/tokenizer.h"

using namespace quire;
using namespace quire::test;
using Json = nlohmann::json;

namespace {

/// A table of names and faces, and a small model that was trained on it.
struct Learned {
  ScratchFolder scratch;
  std::string table = scratch.write("t.csv", "name,face\nsmile,:)\nfrown,:(\nlaugh,:D\nwink,;)\n");

  Learned() {
    const std::filesystem::path text =
        scratch.write("text.txt", "smile :) frown :( laugh :D wink ;) smile frown laugh wink");
    train_bpe({&text, 1}, {.vocab_size = 280}).save(scratch / "tokenizer", 32);
    const std::string config = scratch.write(
        "config.json", R"({"n_layer": 1, "n_head": 2, "n_embd": 24, "n_positions": 32})");
    const ProgramResult trained = run_quire({"train",
                                             "--config",
                                             config,
                                             "--tokenizer",
                                             scratch / "tokenizer",
                                             "--data",
                                             table,
                                             "--template",
                                             "{name} => {face}",
                                             "--loss-on",
                                             "completion",
                                             "--packing",
                                             "none",
                                             "--validation-split",
                                             "0",
                                             "--dropout",
                                             "0",
                                             "--lr",
                                             "1e-2",
                                             "--max-steps",
                                             "60",
                                             "--batch-size",
                                             "4",
                                             "--save-steps",
                                             "0",
                                             "--output-dir",
                                             scratch / "model"});
    INFO(trained.err);
    REQUIRE(trained.exit_code == 0);
  }
  ProgramResult eval(std::vector<std::string> arguments) const {
    arguments.insert(arguments.begin(), {"eval", "--model", scratch / "model"});
    return run_quire(arguments);
  }
};

}  // namespace

TEST_CASE("completions are counted as the likeliest text and among the likeliest") {
  const Learned learned;
  const auto scores = [&](const std::string& table) {
    const ProgramResult result = learned.eval(
        {"--data", table, "--template", "{name} => {face}", "--completions", "3", "--json"});
    INFO(result.err);
    REQUIRE(result.exit_code == 0);
    return parse_json<Json>(result.out);
  };
  const Json own = scores(learned.table);
  CHECK(own["records"] == 4);
  CHECK(own["exact_match"] == 1.0);
  CHECK(own["among_top_3"] == 1.0);
  // Another face for half of the names: not the likeliest, and whether it is among
  // three is the model's affair.
  const Json other =
      scores(learned.scratch.write("o.csv", "name,face\nsmile,:(\nfrown,:(\nlaugh,zz\nwink,;)\n"));
  CHECK(other["exact_match"] == 0.5);
  CHECK(other["among_top_3"] >= 0.5);
  CHECK(other["among_top_3"] <= 0.75);  // zz was never seen

  const ProgramResult beside =
      learned.eval({"--data", learned.table, "--template", "{name} => {face}", "--completions", "3",
                    "--json", "--baseline", learned.scratch / "model"});
  INFO(beside.err);
  CHECK(parse_json<Json>(beside.out)["difference"]["exact_match"] == 0.0);
  // And asked for one by one
  const ProgramResult asked = run_quire(
      {"generate", "--model", learned.scratch / "model", "--keywords", "wink", "--num-beams", "2"});
  CHECK(asked.out == "wink => ;)\n");
}

TEST_CASE("completions need a template, and prompts that the context holds") {
  const Learned learned;
  const ProgramResult no_template = learned.eval({"--data", learned.table, "--completions", "3"});
  CHECK(no_template.exit_code == 2);
  CHECK(contains(no_template.err, "needs a template"));
  const ProgramResult no_prompt =
      learned.eval({"--data", learned.table, "--template", "{name}{face}", "--completions", "3"});
  CHECK(no_prompt.exit_code == 0);
  const std::string long_table =
      learned.scratch.write("l.csv", "name,face\n" + std::string(400, 'q') + ",:)\n");
  const ProgramResult too_long =
      learned.eval({"--data", long_table, "--template", "{name} => {face}", "--completions", "3"});
  CHECK(too_long.exit_code == 3);
  CHECK(contains(too_long.err, "the model's context holds 32"));
}

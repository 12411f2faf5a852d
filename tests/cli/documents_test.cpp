// What docs/ says, held against what the program does.
#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <regex>
#include <set>

#include "base/error.h"
#include "base/json.h"
#include "engine/training/log_files.h"
#include "pipeline/metric_names.h"
#include "tests/cli/letter_model.h"
#include "tests/cli/train_workplace.h"
#include "tests/support/catch.h"

using namespace quire;
using namespace quire::test;
using Json = nlohmann::json;
namespace fs = std::filesystem;

namespace {

std::string document(const std::string& name) {
  return read_file(fs::path(QUIRE_SOURCES) / name);
}

/// What the expression finds in a text; of each find its first group.
std::set<std::string> all_of(const std::string& text, const std::string& expression) {
  const std::regex regex(expression);
  std::set<std::string> found;
  for (std::sregex_iterator at(text.begin(), text.end(), regex), end; at != end; ++at) {
    found.insert((*at)[1].str());
  }
  return found;
}

/// The names in backquotes in the first column of a document's tables.
std::set<std::string> first_column(const std::string& text) {
  std::set<std::string> names;
  for (const std::string& cell : all_of(text, "(?:^|\n)\\| ((?:`[^`]*`(?:, )?)+) \\|")) {
    names.merge(all_of(cell, "`([^`]*)`"));
  }
  return names;
}

std::set<std::string> keys_of(const Json& object) {
  std::set<std::string> keys;
  for (const auto& [key, value] : object.items()) keys.insert(key);
  return keys;
}

}  // namespace

TEST_CASE("docs/training-log.md has the columns of the logs, and no others") {
  const Workplace work;
  const std::string out = work.folder / "out";
  std::string reports = "jsonl,csv";
#ifdef QUIRE_WITH_TENSORBOARD
  reports += ",tensorboard";
#endif
  const ProgramResult run = run_quire(
      work.command(out, {"--max-steps", "6", "--eval-steps", "5", "--report-to", reports, "-q",
                         "--sample-every", "5", "--sample-prompt", "The", "--json"}));
  INFO(run.err);
  REQUIRE(run.exit_code == 0);
  const std::string text = document("docs/training-log.md");
  const std::string numbers = text.substr(0, text.find("## What is no number"));

  std::set<std::string> columns;
  for (const std::string& column : all_of(CsvLog::kHeading, "([a-z_]+)")) columns.insert(column);
  CHECK(first_column(numbers) == columns);
  for (const Json& line : json_lines(file(out, "log.jsonl"))) columns.merge(keys_of(line));
  columns.insert("warning");  // of which this run has none
  CHECK(first_column(text) == columns);
#ifdef QUIRE_WITH_TENSORBOARD
  const std::string tags = "((?:train|eval)/[a-z_]+)";
  const std::string events = file(out, "tensorboard/events.out.tfevents.quire");
  CHECK(all_of(text, tags) == all_of(events, tags));
#endif
  for (const Json& line : json_lines(run.out)) {
    CHECK(contains(text, "`" + line["event"].get<std::string>() + "`"));
    for (const std::string& key : keys_of(line)) {
      INFO(key);
      CHECK(contains(text, "`" + key + "`"));
    }
  }
}

TEST_CASE("docs/metrics.md has the metrics of eval, and no others") {
  std::set<std::string> names;
  for (const MetricName& metric : metric_names()) names.emplace(metric.name);
  const std::string text = document("docs/metrics.md");
  CHECK(first_column(text.substr(0, text.find("## Beside `evaluate`"))) == names);
  // Its last table answers names as the program does: those that it has are no others' answers.
  for (const std::string& name : first_column(text.substr(text.find("## Beside `evaluate`")))) {
    INFO(name);
    CHECK((names.contains(name) != !nearest_metric(name).empty()));
  }
}

TEST_CASE("what eval tells is what its metrics are called") {
  const ScratchFolder scratch;
  const std::string model = make_letter_model(scratch);
  const std::string text = scratch.write("a.txt", "the cat. the dog.");
  const std::string table = scratch.write("t.csv", "text,words\nthe cat,cat\n");
  const auto told = [&](Evaluation evaluation, const std::vector<std::string>& options) {
    std::vector<std::string> arguments = {"eval", "--model", model, "--json", "-q"};
    arguments.insert(arguments.end(), options.begin(), options.end());
    const ProgramResult run = run_quire(arguments);
    INFO(run.err);
    REQUIRE(run.exit_code == 0);
    std::set<std::string> names;
    for (const MetricName& metric : metric_names()) {
      if (metric.evaluation == evaluation) names.emplace(metric.name);
    }
    std::set<std::string> keys = keys_of(parse_json<Json>(run.out));
    if (keys.erase("among_top_2") > 0) keys.insert("among_top_K");
    CHECK(keys == names);
  };
  told(Evaluation::data, {"--data", text});
  told(Evaluation::completions,
       {"--data", table, "--template", "{text}{words}", "--completions", "2"});
  told(Evaluation::texts,
       {"--texts", table, "--keywords-column", "words", "--training-data", text});
}

TEST_CASE("docs/exit-codes.md has every kind of trouble") {
  const std::set<std::string> rows = all_of(document("docs/exit-codes.md"), "\n\\| ([0-9]+)[, ]");
  std::set<std::string> codes = {"0", "130"};
  for (const Fault fault : {Fault::internal, Fault::usage, Fault::bad_data, Fault::no_space,
                            Fault::device, Fault::diverged, Fault::check}) {
    codes.insert(std::to_string(static_cast<int>(fault)));
  }
  CHECK(rows == codes);
}

TEST_CASE("README names every document, and no other") {
  std::set<std::string> documents;
  for (const auto& entry : fs::directory_iterator(fs::path(QUIRE_SOURCES) / "docs")) {
    documents.insert("docs/" + entry.path().filename().string());
  }
  CHECK(all_of(document("README.md"), "(docs/[a-z-]+\\.md)") == documents);
}

TEST_CASE("docs/library.md names headers and programs that are there") {
  const std::string text = document("docs/library.md");
  std::set<std::string> headers = all_of(text, "`([a-z_]+/[a-z_/]+\\.h)`");
  CHECK(headers.size() > 10);
  headers.merge(all_of(text, "\\(\\.\\./(examples/[a-z]+\\.cpp)\\)"));
  for (const std::string& name : headers) {
    INFO(name);
    CHECK(fs::exists(fs::path(QUIRE_SOURCES) / name));
  }
  CHECK(contains(document("examples/CMakeLists.txt"), "foreach(example generate tokenize train)"));
}

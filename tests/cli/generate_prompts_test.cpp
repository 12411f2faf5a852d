// Prompts from a template, and texts into a folder.
#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/json.h"
#include "tests/cli/letter_model.h"
#include "tests/support/catch.h"

using namespace quire;
using namespace quire::test;

namespace {

struct PromptModel {
  ScratchFolder scratch;
  std::string folder = make_letter_model(scratch);

  ProgramResult run(std::vector<std::string> arguments) const {
    arguments.insert(arguments.begin(), {"generate", "--model", folder, "-n", "4"});
    return run_quire(arguments);
  }
  std::string text(const std::vector<std::string>& arguments) const {
    const ProgramResult result = run(arguments);
    INFO(result.err);
    CHECK(result.exit_code == 0);
    return result.out;
  }
};

}  // namespace

TEST_CASE("keywords fill the template that is given, or the one the model was trained on") {
  const PromptModel model;
  const std::string wanted = model.text({"-p", "abc def"});
  CHECK(model.text({"--keywords", "abc", "--template", "{k} def {q}"}) == wanted);
  check_refused(model.run({"--keywords", "abc"}), 2, "--keywords needs a template");
  write_file(std::filesystem::path(model.folder) / "quire_config.json",
             R"({"template": "{keywords} def {quote}"})");
  CHECK(model.text({"--keywords", "abc"}) == wanted);
  CHECK(model.text({"--keywords", "abc", "--keywords", "h"}) ==
        wanted + "---\n" + model.text({"-p", "h def"}));
}

TEST_CASE("words without quotes are told to be several prompts") {
  const PromptModel model;
  const ProgramResult two = model.run({"abc", "d ef"});
  CHECK(two.exit_code == 0);
  CHECK(
      two.err.starts_with("2 prompts, a text from each: one of several words stands in quotes\n"
                          "  try: quire generate \"abc d ef\"\n"));
  CHECK_FALSE(contains(model.run({"abc d ef"}).err, "2 prompts"));
  CHECK_FALSE(contains(model.run({"-p", "abc", "-p", "def"}).err, "2 prompts"));  // plainly two
}

TEST_CASE("a file without a prompt is an error, whether it is read whole or by lines") {
  const PromptModel model;
  const std::string empty = model.scratch.write("empty.txt", "");
  const std::string message =
      "empty.txt holds no prompt\n  try: -p \"\", which begins a text anew\n";
  check_refused(model.run({"--prompt-file", empty}), 3, message);
  check_refused(model.run({"--prompt-file", empty, "--line-by-line"}), 3, message);
  check_refused(model.run({"--prompt-file", model.scratch.write("empty.txt", "\n")}), 3, message);
}

TEST_CASE("the rows of a table fill the template") {
  const PromptModel model;
  const std::string table =
      model.scratch.write("t.csv", "name,mood,text\nabc,def,gone\n\"h\",e,\n");
  const std::string texts = model.text({"--requests", table, "--template", "{name} {mood} {text}"});
  CHECK(texts == model.text({"-p", "abc def", "-p", "h e"}));
  // The last field is what the model writes: its column need not be there.
  CHECK(texts == model.text({"--requests", table, "--template", "{name} {mood} {answer}"}));

  const std::string first =
      model.text({"--requests", table, "--limit", "1", "--template", "{name} {mood} {text}"});
  CHECK(texts.starts_with(first + "---\n"));
  const std::string line =
      model.text({"--requests", table, "--template", "{name} {mood} {text}", "--json"});
  CHECK(parse_json<nlohmann::json>(line.substr(0, line.find('\n')))["mood"] == "def");

  const ProgramResult no_column = model.run({"--requests", table, "--template", "{nam} => {text}"});
  check_refused(no_column, 3, "has no column 'nam'");
  check_refused(no_column, 3, "columns: name, mood, text");
  check_refused(model.run({"--requests", table, "--template", "{name}"}), 2, "has a single field");
  check_refused(model.run({"--requests", table, "--template", "{a} => {b}", "-p", "x"}), 2,
                "--requests brings its own prompts");
  check_refused(model.run({"-p", "x", "--template", "{a} => {b}"}), 2, "nothing to fill it");
  check_refused(model.run({"--keywords", "x", "--template", "{a} {b} => {c}"}), 2,
                "--requests FILE.csv");
  const std::string empty = model.scratch.write("empty.csv", "name,text\n");
  check_refused(model.run({"--requests", empty, "--template", "{name} => {text}"}), 3,
                "has no rows");
}

TEST_CASE("texts go into a folder: a file each, and all of them as JSON lines") {
  const PromptModel model;
  const std::filesystem::path out = model.scratch / "texts";
  const std::vector<std::string> arguments = {"-p", "abc", "-p", "h", "--output-dir", out.string()};
  CHECK(model.text(arguments).empty());
  CHECK(read_file(out / "0001.txt") == model.text({"-p", "abc"}));
  CHECK(read_file(out / "0002.txt") == model.text({"-p", "h"}));
  CHECK(read_file(out / "generated_texts.jsonl") == model.text({"-p", "abc", "-p", "h", "--json"}));

  check_refused(model.run(arguments), 2, "is there already");
  std::vector<std::string> again = arguments;
  again.emplace_back("--overwrite-output-dir");
  CHECK(model.text(again).empty());
  again.emplace_back("--stream");
  check_refused(model.run(again), 2, "--stream and --output-dir");
}

TEST_CASE("a row or a line that cannot be answered is named, and the others are answered") {
  const PromptModel model;
  const std::string too_long(20, 'a');  // the context is 16
  const std::string table =
      model.scratch.write("t.csv", "name,text\nabc,x\n" + too_long + ",x\nh,x,y\n\"b\"c,x\nh,x\n");
  const std::vector<std::string> requests = {"--requests", table, "--template", "{name} {text}"};
  const ProgramResult result = model.run(requests);
  CHECK(result.exit_code == 2);  // the first one's
  CHECK(result.out == model.text({"-p", "abc", "-p", "h"}));
  CHECK(contains(result.err, "t.csv:3: "));
  CHECK(contains(result.err, "t.csv line 4: the row has 3 fields, the header has 2"));
  CHECK(contains(result.err, "t.csv line 5: there is text after the closing quote of field 1"));
  CHECK(count_of(result.err, "error: ") == 3);
  std::vector<std::string> as_json = requests;
  as_json.emplace_back("--json");
  const std::vector<nlohmann::json> lines = json_lines(model.run(as_json).out);
  REQUIRE(lines.size() == 5);
  CHECK(lines[0]["name"] == "abc");
  CHECK(contains(lines[2]["error"], "line 4: the row has 3 fields"));
  CHECK(lines[4]["index"] == 4);
  // The first three of them: one is sound.
  std::vector<std::string> limited = requests;
  limited.insert(limited.end(), {"--limit", "3"});
  CHECK(model.run(limited).out == model.text({"-p", "abc"}));

  const std::string bad = model.scratch.write("bad.csv", "name,text\n" + too_long + ",x\n");
  check_refused(model.run({"--requests", bad, "--template", "{name} {text}"}), 2, "bad.csv:2: ");
  const std::string open = model.scratch.write("open.csv", "name,text\nabc,x\nh,\"x\nb,x\n");
  const ProgramResult unknown = model.run({"--requests", open, "--template", "{name} {text}"});
  check_refused(unknown, 3, "open.csv line 3: the quote that opens here is never closed");
  CHECK(unknown.out.empty());

  const std::string prompts = model.scratch.write("p.txt", "abc\n" + too_long + "\nh\n");
  const ProgramResult listed = model.run({"--prompt-file", prompts, "--line-by-line"});
  CHECK(listed.exit_code == 2);
  CHECK(listed.out == model.text({"-p", "abc", "-p", "h"}));
  CHECK(contains(listed.err, "error: " + prompts + ":2: "));
}

TEST_CASE("a column that a template names and a table has not is told once") {
  const PromptModel model;
  const std::string table = model.scratch.write("t.csv", "name,text\nabc,x\n");
  const ProgramResult result = model.run({"--requests", table, "--template", "{nam} {text}"});
  CHECK(result.exit_code == 3);
  CHECK(result.err == "error: " + table +
                          " has no column 'nam'\n  columns: name, text (1 row, UTF-8, LF)\n"
                          "  try: a --template that names the table's columns\n");
}

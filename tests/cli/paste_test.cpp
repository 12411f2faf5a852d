// Commands that are suggested can be pasted, whatever the names in them are.
#include <algorithm>
#include <cstdio>

#include "base/file.h"
#include "pipeline/get_model.h"
#include "tests/cli/train_workplace.h"
#include "tests/support/catch.h"

using namespace quire;
using namespace quire::test;
namespace fs = std::filesystem;

namespace {

/// The words that a shell makes of a command.
std::vector<std::string> words_of(const std::string& command) {
  std::FILE* pipe = ::popen(("printf '%s\\n' " + command).c_str(), "r");
  REQUIRE(pipe != nullptr);
  std::vector<std::string> words(1);
  for (int c; (c = std::fgetc(pipe)) != EOF;) {
    if (c == '\n') {
      words.emplace_back();
    } else {
      words.back() += static_cast<char>(c);
    }
  }
  CHECK(::pclose(pipe) == 0);
  words.pop_back();
  return words;
}

/// What stands behind the last "try: ".
std::string suggested(const std::string& printed) {
  const std::size_t at = printed.rfind("  try: ");
  if (at == std::string::npos) return "";
  const std::size_t begin = at + 7;
  return printed.substr(begin, printed.find('\n', begin) - begin);
}

void check_suggests(const std::vector<std::string>& arguments,
                    const std::vector<std::string>& wanted) {
  const ProgramResult result = run_quire(arguments);
  INFO(result.err);
  const std::vector<std::string> words = words_of(suggested(result.err));
  for (const std::string& word : wanted) {
    INFO(word);
    CHECK(std::find(words.begin(), words.end(), word) != words.end());
  }
}

}  // namespace

TEST_CASE("suggested commands come through a shell with the names that files and columns have") {
  const ScratchFolder scratch;
  const std::string folder = scratch / "it's $HOME's data";
  fs::create_directories(folder);
  const auto write = [&](const std::string& name, const std::string& text) {
    write_file(fs::path(folder) / name, text);
    return (fs::path(folder) / name).string();
  };
  const std::string prose = "A sentence that is clearly longer than a label would be.";
  const std::string table = write("a.csv", "it's,$x\n" + prose + ",b\n");
  check_suggests({"train", "--data", table, "-o", folder + "/out"},
                 {"train", "--data", table, "--text-column", "it's"});
  check_suggests(
      {"train", "--data", write("labels.csv", "it's,$x\nsun,s\n"), "-o", folder + "/out"},
      {folder + "/labels.csv", "--template", "{it's} => {$x}"});
  check_suggests({"keywords", table}, {"keywords", table, "--text-column", "it's"});
  check_suggests({"eval", "--texts", table}, {"--texts", table, "--text-column", "it's"});
  const std::string lines = write("a.jsonl", "{\"it's\": \"" + prose + "\"}\n");
  check_suggests({"train", "--data", lines, "-o", folder + "/out"},
                 {"--data", lines, "--text-column", "it's"});
  const std::string parquet = write("a.parquet", "x");
  check_suggests(
      {"train", "--data", parquet, "-o", folder + "/out"},
      {"python3", "import pandas; pandas.read_parquet('" + scratch.path().string() +
                      "/it\\'s $HOME\\'s data/a.parquet').to_json('" + scratch.path().string() +
                      "/it\\'s $HOME\\'s data/a.jsonl', orient='records', lines=True, "
                      "force_ascii=False)"});
  check_suggests({"data", "inspect", folder + "/none of these.csv"}, {"ls", folder});

  const std::string text = write("a.txt", prose + "\nAnother one.\n");
  const std::string shards = folder + "/shards";
  check_suggests({"data", "prepare", text, "--tokenizer", kBundledModel, "-o", shards},
                 {"quire", "train", "--data", shards, "--tokenizer", kBundledModel});
  fs::remove(fs::path(shards) / "manifest.json");
  check_suggests({"train", "--data", shards, "-o", folder + "/out"}, {"prepare", "-o", shards});
}

TEST_CASE("what a run ends with names its folder for a shell") {
  const Workplace work;
  const std::string out = "my model's out";
  check_suggests(work.command(out, {"--max-steps", "1"}),
                 {"quire", "generate", "--model", work.folder / out});
}

TEST_CASE("on a terminal a suggested command names the program as the shell finds it") {
  const ScratchFolder scratch;
  const ProgramOptions terminal{.streams = Streams::terminal, .columns = 60};
  const ProgramResult result = run_quire({"demo", "--typo"}, terminal);
  CHECK(result.exit_code == 2);
  std::string command = suggested(result.out);
  for (std::size_t at; (at = command.find('\r')) != std::string::npos;) command.erase(at);
  if (command.ends_with(" \\")) {  // goes on in the next line
    const std::size_t next = result.out.rfind("      ");
    command = command.substr(0, command.size() - 1) + result.out.substr(next);
  }
  CHECK(words_of(command).front() != "quire");
  std::FILE* pipe = ::popen((command + " 2>&1").c_str(), "r");
  REQUIRE(pipe != nullptr);
  std::string help;
  for (int c; (c = std::fgetc(pipe)) != EOF;) help += static_cast<char>(c);
  CHECK(::pclose(pipe) == 0);
  CHECK(contains(help, "Usage:\n  quire demo"));
}

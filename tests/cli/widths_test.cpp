// What people read fits their terminal, with no word broken; what goes into a file has one form.
#include <algorithm>
#include <cctype>
#include <set>
#include <sstream>

#include "base/file.h"
#include "cli/terminal.h"
#include "pipeline/get_model.h"
#include "pipeline/resources.h"
#include "tests/cli/program.h"
#include "tests/support/catch.h"

using namespace quire;
using namespace quire::test;

namespace {

std::string quotes() {
  return find_resource("samples/quotes.csv");
}

/// The lines that stay, without styles: what was drawn in place is left out.
std::vector<std::string> lines_that_stay(std::string out) {
  for (std::size_t end; (end = out.find("\x1b[K")) != std::string::npos;) {
    const std::size_t begin = out.rfind('\r', end);
    out.erase(begin, end + 3 - begin);
  }
  for (const char* style : {"\x1b[0m", "\x1b[1m", "\x1b[2m", "\r"}) {
    for (std::size_t at; (at = out.find(style)) != std::string::npos;) {
      out.erase(at, std::string(style).size());
    }
  }
  std::vector<std::string> lines;
  std::istringstream stream(out);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

void check_widths(const std::vector<std::string>& lines, int columns) {
  for (const std::string& line : lines) {
    INFO(line);
    CHECK(display_width(line) <= columns);
  }
}

/// Without what stands around it.
std::set<std::string> words_of(const std::string& text) {
  std::set<std::string> words;
  std::string word;
  for (const char c : text + " ") {
    if (std::isspace(static_cast<unsigned char>(c)) == 0 && c != '|' && c != ',' && c != ':') {
      word += c;
    } else if (!word.empty()) {
      words.insert(std::exchange(word, ""));
    }
  }
  return words;
}

std::vector<std::string> split(const std::string& text) {
  std::istringstream stream(text);
  std::vector<std::string> words;
  for (std::string word; stream >> word;) words.push_back(word);
  return words;
}

std::vector<std::string> on_terminal(const std::vector<std::string>& arguments, int columns,
                                     const std::filesystem::path& folder = {}) {
  const ProgramResult result =
      run_quire(arguments, {.folder = folder, .streams = Streams::terminal, .columns = columns});
  INFO(result.out);
  CHECK(result.exit_code == 0);
  return lines_that_stay(result.out);
}

}  // namespace

TEST_CASE("every help fits the terminal, and is 100 columns wide elsewhere") {
  for (const char* command : {"",
                              "demo",
                              "doctor",
                              "train",
                              "sweep",
                              "generate",
                              "eval",
                              "tokenizer",
                              "tokenizer train",
                              "tokenizer encode",
                              "tokenizer decode",
                              "data",
                              "data inspect",
                              "data prepare",
                              "keywords",
                              "bench",
                              "bench train",
                              "bench generate",
                              "bench kernels",
                              "bench tokenizer"}) {
    INFO(command);
    std::vector<std::string> arguments = split(command);
    arguments.emplace_back("--help");
    const std::string piped = run_quire(arguments, {.environment = {{"COLUMNS", "60"}}}).out;
    CHECK(piped == run_quire(arguments).out);
    check_widths(lines_that_stay(piped), 100);
    const std::set<std::string> words = words_of(piped);
    for (const int columns : {60, 80, 100, 200}) {
      INFO(columns);
      const std::vector<std::string> lines = on_terminal(arguments, columns);
      check_widths(lines, std::min(columns, 100));
      std::string all;
      for (const std::string& line : lines) all += line + "\n";
      for (const std::string& word : words_of(all)) {
        INFO(word);
        // A backslash goes on in the next line; choices beside an option become "NAME" there.
        CHECK((word == "\\" || word == "or" || word == "NAME" || words.contains(word)));
      }
    }
  }
}

TEST_CASE("tables and lines for people fit the terminal") {
  const ScratchFolder scratch;
  write_file(scratch / "text.txt",
             "The captain looked at the sea. The sea looked at the captain.\n");
  write_file(scratch / "small.json",
             R"({"vocab_size": 100, "n_positions": 16, "n_embd": 8, "n_layer": 1, "n_head": 2})");
  write_file(scratch / "sweep.json",
             R"({"method": "grid", "train": {"config": "small.json", "tokenizer": "narrator",
                 "data": "text.txt", "block_size": 8, "max_steps": 2, "validation_split": 0},
                 "search": {"learning_rate": [0.001, 0.002], "weight_decay": [0, 0.1]},
                 "metric": "loss"})");
  const std::vector<std::vector<std::string>> commands = {
      {"doctor", "--device", "cpu"},
      {"data", "inspect", quotes(), "--text-column", "quote", "--tokenizer", kBundledModel},
      {"data", "inspect", quotes()},
      {"eval", "--model", kBundledModel, "--baseline",
       find_resource(std::string("models/") + kBundledModel), "--data", "text.txt"},
      {"keywords", quotes(), "--text-column", "quote", "--output", "keywords.csv"},
      {"sweep", "sweep.json", "--output-dir", "sweep"},
      {"bench", "kernels", "--config", "small.json", "--device", "cpu", "--seconds", "0.001",
       "--ops", "layernorm"},
      {"demo", "--max-steps", "1", "--output-dir", "demo"}};
  for (const std::vector<std::string>& command : commands) {
    INFO(command[0]);
    std::vector<std::string> again = command;
    again.emplace_back("--overwrite");
    const bool writes = command[0] != "doctor" && command[0] != "data" && command[0] != "eval";
    const std::vector<std::string> narrow = on_terminal(command, 60, scratch.path());
    check_widths(narrow, 60);
    CHECK(narrow.size() > (command[0] == "keywords" ? 0 : 3));
    if (command[0] == "demo" || command[0] == "doctor") continue;
    check_widths(on_terminal(writes ? again : command, 100, scratch.path()), 100);
  }
}

TEST_CASE("what is redirected has no codes for a terminal, though the other stream is one") {
  const ScratchFolder scratch;
  const auto file = scratch / "out.txt";
  const ProgramResult result =
      run_quire({"data", "inspect", quotes(), "--text-column", "quote"},
                {.streams = Streams::terminal, .columns = 60, .output_file = file});
  CHECK(result.exit_code == 0);
  const std::string out = read_file(file);
  CHECK_FALSE(contains(out, "\x1b"));
  CHECK(out == run_quire({"data", "inspect", quotes(), "--text-column", "quote"}).out);
}

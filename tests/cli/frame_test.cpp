// The program's frame: help, typos, exit codes, the form of errors, and broken pipes.
#include <algorithm>
#include <sstream>

#include "tests/cli/program.h"
#include "tests/support/catch.h"

using quire::test::contains;
using quire::test::ProgramOptions;
using quire::test::ProgramResult;
using quire::test::run_quire;
using quire::test::ScratchFolder;

namespace {

std::size_t longest_line(const std::string& text) {
  std::istringstream lines(text);
  std::size_t longest = 0;
  for (std::string line; std::getline(lines, line);) longest = std::max(longest, line.size());
  return longest;
}

}  // namespace

TEST_CASE("quire --help lists the commands on stdout") {
  const ProgramResult result = run_quire({"--help"});
  CHECK(result.exit_code == 0);
  CHECK(contains(result.out, "Usage: quire COMMAND"));
  CHECK(contains(result.out, "\n  doctor "));
  CHECK(contains(result.out, "\n  tokenizer "));
  CHECK(result.err.empty());
}

TEST_CASE("quire alone shows the help on stderr and exits 2") {
  const ProgramResult result = run_quire({});
  CHECK(result.exit_code == 2);
  CHECK(result.out.empty());
  CHECK(contains(result.err, "Usage: quire COMMAND"));
}

TEST_CASE("quire --version is one line") {
  const ProgramResult result = run_quire({"--version"});
  CHECK(result.exit_code == 0);
  CHECK(result.out.starts_with("quire "));
  CHECK(std::count(result.out.begin(), result.out.end(), '\n') == 1);
}

TEST_CASE("every command in the overview has a help of at most 100 columns") {
  std::istringstream lines(run_quire({"--help"}).out);
  int commands = 0;
  bool listed = false;
  for (std::string line; std::getline(lines, line);) {
    if (line == "Commands:") listed = true;
    if (line.empty()) listed = listed && commands == 0;
    if (!listed || !line.starts_with("  ")) continue;
    const std::string name = line.substr(2, line.find(' ', 2) - 2);
    CAPTURE(name);
    const ProgramResult result = run_quire({name, "--help"});
    CHECK(result.exit_code == 0);
    CHECK(contains(result.out, "quire " + name));
    CHECK(result.err.empty());
    CHECK(longest_line(result.out) <= 100);
    CHECK(run_quire({"help", name}).out == result.out);
    ++commands;
  }
  CHECK(commands >= 2);
}

TEST_CASE("a mistyped command gets the nearest one") {
  const ProgramResult result = run_quire({"docter"});
  CHECK(result.exit_code == 2);
  CHECK(result.out.empty());
  CHECK(result.err ==
        "error: there is no command 'docter'\n  did you mean quire doctor?\n  try: quire --help\n");
}

TEST_CASE("a mistyped option gets the nearest one") {
  const ProgramResult result = run_quire({"doctor", "--thread", "2"});
  CHECK(result.exit_code == 2);
  CHECK(result.err ==
        "error: quire doctor has no option --thread\n  did you mean --threads?\n"
        "  try: quire doctor --help\n");
}

TEST_CASE("values that do not fit are refused with what is allowed") {
  CHECK(contains(run_quire({"doctor", "--threads", "-3"}).err,
                 "error: --threads is -3, it must be between 0 and 1024\n"));
  CHECK(contains(run_quire({"doctor", "--threads=two"}).err,
                 "error: --threads wants a whole number, not 'two'\n"));
  CHECK(contains(run_quire({"doctor", "--threads"}).err, "error: --threads wants a value: N\n"));
  CHECK(contains(run_quire({"doctor", "--device", "cup"}).err, "  try: --device cpu\n"));
  CHECK(contains(run_quire({"doctor", "here"}).err, "error: unexpected argument 'here'\n"));
  CHECK(run_quire({"doctor", "--threads", "-3"}).exit_code == 2);
}

TEST_CASE("a reader that leaves ends the program quietly") {
  // No one reads: the program's first write to stdout finds a closed pipe.
  quire::test::Program program({"--help"});
  program.close_output();
  const ProgramResult result = program.wait();
  CHECK(result.exit_code == 0);
  CHECK(result.signal == 0);
  CHECK(result.err.empty());
}

TEST_CASE("a full disk behind stdout is an error with exit code 4") {
  ProgramOptions options;
  options.output_file = "/dev/full";
  const ProgramResult result = run_quire({"--help"}, options);
  CHECK(result.exit_code == 4);
  CHECK(contains(result.err, "error: cannot write to standard output"));
}

TEST_CASE("a config file that cannot be used names the place") {
  const ScratchFolder scratch;
  const auto error_of = [&](const std::string& text) {
    const ProgramResult result =
        run_quire({"doctor", "--config-file", scratch.write("options", text)});
    CHECK(result.out.empty());
    return std::to_string(result.exit_code) + " " + result.err;
  };
  CHECK(contains(error_of("{\"threads\": "), "is not valid JSON"));
  CHECK(contains(error_of("threads = 2\n[section]\n"), "options:2 begins a table"));
  CHECK(contains(error_of("threads 2\n"), "options:1 is not `option = value`"));
  CHECK(contains(error_of("threads = two\n"), "cannot read the value of 'threads'"));
  CHECK(error_of("threads = 2\nthread = 2\n").starts_with("2 error: quire doctor has no option"));
  CHECK(contains(error_of("thread = 2\n"), "key 'thread'"));
  CHECK(error_of("threads = [1, 2]\n").starts_with("2 error: --threads takes one value"));
  CHECK(contains(
      error_of("threads = 2\n# once more\n\"threads\" = 3\n"),
      "3 error: " + (scratch / "options").string() + ":3: 'threads' is set a second time"));
  CHECK(contains(error_of("{\"threads\": 2, \"threads\": 3}"), "'threads' is set a second time"));
  const ProgramResult missing = run_quire({"doctor", "--config-file", scratch / "none.toml"});
  CHECK(missing.exit_code == 3);
  CHECK(contains(missing.err, "none.toml"));
}

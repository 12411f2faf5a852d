// quire train on a terminal: the line that moves, and Ctrl-C as it is typed.
#include <sstream>

#include "cli/terminal.h"
#include "tests/cli/train_workplace.h"
#include "tests/support/catch.h"

using namespace quire;
using namespace quire::test;

namespace {

/// What was drawn in place: all between "\r" and the code that clears the rest of the line.
std::vector<std::string> moving_lines(const std::string& out) {
  constexpr std::string_view kEnd = "\x1b[K";
  std::vector<std::string> lines;
  for (std::size_t at = 0; (at = out.find(kEnd, at)) != std::string::npos; at += kEnd.size()) {
    const std::size_t begin = out.rfind('\r', at);
    if (begin + 1 < at) lines.push_back(out.substr(begin + 1, at - begin - 1));
  }
  return lines;
}

}  // namespace

TEST_CASE("on a narrow terminal the line keeps the step and the time left, and no word is broken") {
  const Workplace work;
  for (const int columns : {100, 60, 40}) {
    INFO(columns);
    const std::string out = "out-" + std::to_string(columns);
    const ProgramResult result = run_quire(work.command(out, {"--max-steps", "300"}),
                                           {.streams = Streams::terminal, .columns = columns});
    REQUIRE(result.exit_code == 0);
    int steps = 0;
    for (const std::string& line : moving_lines(result.out)) {
      INFO(line);
      CHECK(display_width(line) < columns);
      CHECK_FALSE(contains(line, "…"));
      if (!contains(line, "loss")) continue;
      ++steps;
      CHECK(line.starts_with("step "));
      CHECK((contains(line, " left") || contains(line, "300/300")));
      CHECK(contains(line, "tok/s") == (columns > 40));
    }
    CHECK(steps > 0);
    // Lines that stay: nothing is wider, but for a command and what is one word.
    std::string rest = result.out;
    for (std::size_t at; (at = rest.find("\x1b[K")) != std::string::npos;) {
      const std::size_t begin = rest.rfind('\r', at);
      rest.erase(begin, at + 3 - begin);
    }
    std::istringstream lines(rest);
    for (std::string line; std::getline(lines, line);) {
      if (line.ends_with('\r')) line.pop_back();
      INFO(line);
      const std::size_t word = line.find_last_of(' ') + 1;
      CHECK((display_width(line) <= columns || contains(line, "try: ") ||
             display_width(line.substr(word)) > columns - static_cast<int>(word)));
    }
  }
}

TEST_CASE("Ctrl-C is answered at once and leaves a clean line; twice ends at once") {
  const Workplace work;
  const std::vector<std::string> long_run = {"--max-steps", "100000"};
  const ProgramOptions terminal{.streams = Streams::terminal, .columns = 60};
  const std::string answer = "\r\x1b[Kfinishing this step; again to stop now\r\n";
  {
    Program program(work.command("once", long_run), terminal);
    REQUIRE(program.wait_for(" left"));
    program.type("\x03");
    const ProgramResult once = program.wait();
    INFO(once.out.substr(once.out.size() - std::min<std::size_t>(once.out.size(), 600)));
    CHECK(once.exit_code == 130);
    REQUIRE(contains(once.out, answer));
    const std::string after = once.out.substr(once.out.find(answer) + answer.size());
    CHECK(contains(after, "saved " + (work.folder / "once/checkpoint-").string()));
    CHECK(after.ends_with("  try: the same command with --resume-from-checkpoint latest\r\n"));
  }
  {
    // Steps of seconds: the second Ctrl-C does not wait for the end of one.
    std::vector<std::string> slow = long_run;
    slow.insert(slow.end(), {"--gradient-accumulation-steps", "100000", "--validation-split", "0"});
    Program program(work.command("twice", slow), terminal);
    REQUIRE(program.wait_for("step 1/100000 batch "));
    program.type("\x03");
    REQUIRE(program.wait_for(answer));
    program.type("\x03");
    const ProgramResult twice = program.wait();
    CHECK(twice.exit_code == 130);
    CHECK(twice.out.ends_with("\r\x1b[Kstopped\r\n"));
  }
}

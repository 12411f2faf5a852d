// Lines and tables for people, and widths on a terminal.
#include "cli/terminal.h"

#include <pty.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <functional>
#include <string>

#include "cli/signals.h"
#include "tests/support/catch.h"
#include "tests/support/counted_clock.h"

namespace quire {
namespace {

TEST_CASE("widths count columns, not bytes") {
  CHECK(display_width("abc") == 3);
  CHECK(display_width("né") == 2);
  CHECK(display_width("e\u0301") == 1);
  CHECK(display_width("日本") == 4);
  CHECK(display_width("😀") == 2);
  CHECK(display_width("\xff\xfe") == 2);
  CHECK(display_width("\x1b[1mbold\x1b[0m") == 4);
  CHECK(cut_to_width("abcdef", 6) == "abcdef");
  CHECK(cut_to_width("abcdef", 4) == "abc…");
  CHECK(cut_to_width("日本語", 4) == "日…");
}

TEST_CASE("where there is no room, parts of a line go by their rank") {
  const std::vector<LinePart> parts = {
      {"step 3/9"}, {"loss 1.5", 1}, {"a", 4}, {"b", 4}, {"9s left"}};
  CHECK(fit_parts(parts, 80) == "step 3/9 loss 1.5 a b 9s left");
  CHECK(fit_parts(parts, 29) == "step 3/9 loss 1.5 a b 9s left");
  CHECK(fit_parts(parts, 28) == "step 3/9 loss 1.5 a 9s left");
  CHECK(fit_parts(parts, 26) == "step 3/9 loss 1.5 9s left");
  CHECK(fit_parts(parts, 24) == "step 3/9 9s left");
  CHECK(fit_parts(parts, 10) == "step 3/9 …");
  CHECK(fit_parts({}, 10).empty());
}

TEST_CASE("lines are broken between words, and go on below what they began with") {
  CHECK(break_lines("one two three", 13) == "one two three");
  CHECK(break_lines("one two three", 12) == "one two\n  three");
  CHECK(break_lines("  model    a: 6 layers of 256", 24) ==
        "  model    a: 6 layers\n           of 256");
  CHECK(break_lines("  model    a: 6 layers of 256", 20) ==
        "  model    a: 6\n    layers of 256");  // no room below the value
  CHECK(break_lines("  a detail that is long", 14) == "  a detail\n    that is\n    long");
  CHECK(break_lines("ab cd\n\nef gh\n", 4) == "ab\n  cd\n\nef\n  gh\n");
  CHECK(break_lines("  try: another folder, or none", 20) ==
        "  try: another\n       folder, or\n       none");
  CHECK(break_lines("    python3 -c \"print(1)\"", 12) == "    python3 -c \"print(1)\"");
  CHECK(break_lines("a abcdefghijklm b", 6) == "a\n  abcdefghijklm b");  // no place to break it at
  CHECK(break_lines("日本 日本", 8) == "日本\n  日本");
  CHECK(break_lines("", 5).empty());
}

TEST_CASE("a command is broken so that it can be copied, and never in quotes") {
  const std::string line = "  try: quire train --data 'my books' -o out";
  CHECK(break_lines(line, 43) == line);
  CHECK(break_lines(line, 42) == "  try: quire train --data 'my books' \\\n      -o out");
  CHECK(break_lines(line, 35) ==
        "  try: quire train \\\n      --data 'my books' -o out");  // not within the quotes
  CHECK(break_lines("./build/bin/quire demo --seed 1", 24) ==
        "./build/bin/quire demo \\\n    --seed 1");
  CHECK(break_lines("quires of paper are many", 18) == "quires of paper\n  are many");
}

TEST_CASE("a text flows between its margins") {
  CHECK(flow("one  two\nthree", 9, "| ") == "| one two\n| three");
  CHECK(flow("  one ", 2) == "one");  // no place to break it at
  CHECK(flow("", 9, "  ") == "  ");
}

namespace {

/// What a process writes to stderr that does `work`: a terminal or a pipe.
std::string written_by(bool terminal, const std::function<void()>& work) {
  int ends[2] = {-1, -1};
  pid_t child = -1;
  if (terminal) {
    winsize size{};
    size.ws_col = 60;
    child = ::forkpty(&ends[0], nullptr, nullptr, &size);
  } else {
    REQUIRE(::pipe(ends) == 0);
    child = ::fork();
    if (child == 0) ::dup2(ends[1], STDERR_FILENO);
    if (child > 0) ::close(ends[1]);
  }
  REQUIRE(child >= 0);
  if (child == 0) {
    ::setenv("TERM", "xterm", 1);
    work();
    ::_exit(0);
  }
  std::string written;
  char buffer[4096];
  for (ssize_t count; (count = ::read(ends[0], buffer, sizeof buffer)) > 0;) {
    written.append(buffer, static_cast<std::size_t>(count));
  }
  ::close(ends[0]);
  ::waitpid(child, nullptr, 0);
  return written;
}

}  // namespace

TEST_CASE("a moving line counts the seconds in which nothing new is shown") {
  const std::string written = written_by(true, [] {
    constexpr int kMoreThanARound = 20;  // looks of the thread that counts
    test::CountedClock clock;
    ProgressLine line;
    line.show({{"step 1/9"}, {std::string(60, 'x'), 1}});
    clock.await_looks(kMoreThanARound);  // it waits for the first second to pass
    const auto pass_two = [&] {
      for (int second = 0; second < 2; ++second) {
        clock.pass(std::chrono::seconds(1));
        clock.await_looks(kMoreThanARound);
      }
    };
    pass_two();
    line.clear();
    pass_two();  // no line: nothing to count
  });
  const std::string begin = "\rstep 1/9\x1b[K\rstep 1/9 · 1s\x1b[K";
  CHECK(written.substr(0, begin.size()) == begin);
  CHECK(written.ends_with("\rstep 1/9 · 2s\x1b[K\r\x1b[K"));
}

TEST_CASE("a signal that ends the program takes the moving line with it") {
  CHECK(written_by(true, [] {
          leave_clean_line_on_signals();
          ProgressLine line;
          line.show("half done");
          std::raise(SIGINT);
        }) == "\rhalf done\x1b[K\r\x1b[K");
  CHECK(written_by(true, [] {
          leave_clean_line_on_signals();
          ProgressLine line;
          line.show("half done");
          line.clear();
          note("all");
          std::raise(SIGTERM);
        }) == "\rhalf done\x1b[K\r\x1b[Kall\r\n");
}

TEST_CASE("in a pipe a moving line is a plain line now and then") {
  CHECK(written_by(false, [] {
          test::CountedClock clock;
          ProgressLine line;
          for (int i = 0; i < 7; ++i) {  // every ten seconds
            if (line.due()) line.show(std::to_string(i));
            clock.pass(std::chrono::seconds(10));
          }
        }) == "3\n6\n");
  CHECK(written_by(false, [] {
          ProgressLine line;
          line.show("nothing yet");
        }).empty());
}

TEST_CASE("a table aligns words on the left and numbers on the right") {
  CHECK(format_table({{"model", "size"}, {"gpt2", "124M"}, {"é", "5 MB"}}) ==
        "  model  size\n  gpt2   124M\n  é      5 MB\n");
}

TEST_CASE("a table that is too wide goes on below, with its first column again") {
  const std::vector<std::vector<std::string>> rows = {{"run", "step", "loss", "status"},
                                                      {"a", "9", "1.5", "done"}};
  CHECK(format_table(rows, 25) == format_table(rows));
  CHECK(format_table(rows, 24) ==
        "  run  step  loss\n  a       9   1.5\n\n  run  status\n  a    done\n");
  CHECK(format_table(rows, 4) ==
        "  run  step\n  a       9\n\n  run  loss\n  a     1.5\n\n  run  status\n  a    done\n");
  CHECK(format_table({{"run"}, {"a"}}, 4) == "  run\n  a\n");
  CHECK(format_table({}).empty());
}

}  // namespace
}  // namespace quire

// Numbers and tables for people, and widths on a terminal.
#include "cli/terminal.h"

#include <pty.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdlib>
#include <functional>
#include <limits>
#include <string>
#include <thread>

#include "cli/signals.h"
#include "tests/support/catch.h"

namespace quire {
namespace {

TEST_CASE("numbers are written for people") {
  CHECK(human_bytes(999) == "999 B");
  CHECK(human_bytes(12345678) == "12.3 MB");
  CHECK(human_bytes(999999) == "1.00 MB");
  CHECK(human_count(4096) == "4,096");
  CHECK(human_count(124439808) == "124M");
  CHECK(human_count(1557611200) == "1.56B");
  CHECK(human_duration(8.26) == "8.3s");
  CHECK(human_duration(59.6) == "1m 00s");
  CHECK(human_duration(125) == "2m 05s");
  CHECK(human_duration(3725) == "1h 02m");
  CHECK(human_duration(90000) == "1d 01h");
  CHECK(compact_number(0.1f) == "0.1");
  CHECK(compact_number(5e-5f) == "5e-05");
  CHECK(compact_number(20.0) == "20");
  CHECK(compact_number(0.0) == "0");
  CHECK(compact_number(-0.0002f) == "-0.0002");  // one style down to 0.0001
  CHECK(compact_number(1e-4) == "0.0001");
  CHECK(compact_number(9e-5) == "9e-05");
  CHECK(compact_number(1e20) == "1e+20");
  CHECK(rounded_number(4.2345e-5) == "4.2e-05");
  CHECK(rounded_number(2e-4) == "0.0002");
  CHECK(rounded_number(0.00099951) == "0.001");
  CHECK(rounded_number(23.4051, 4) == "23.41");
  CHECK(rounded_number(93765.04, 4) == "93,765");
  CHECK(rounded_number(1234.5678, 2) == "1,235");
  CHECK(rounded_number(6714.3, 5) == "6,714");
  CHECK(rounded_number(std::nan("")) == "nan");
  CHECK(rounded_number(std::numeric_limits<double>::infinity()) == "inf");
}

TEST_CASE("widths count columns, not bytes") {
  CHECK(display_width("abc") == 3);
  CHECK(display_width("né") == 2);
  CHECK(display_width("e\u0301") == 1);
  CHECK(display_width("日本") == 4);
  CHECK(display_width("😀") == 2);
  CHECK(display_width("\xff\xfe") == 2);
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
  CHECK(break_lines("  try: quire demo --seed 1", 10) == "  try: quire demo --seed 1");
  CHECK(break_lines("    python3 -c \"print(1)\"", 12) == "    python3 -c \"print(1)\"");
  CHECK(break_lines("a abcdefghijklm b", 6) == "a\n  abcdefghijklm b");  // no place to break it at
  CHECK(break_lines("日本 日本", 8) == "日本\n  日本");
  CHECK(break_lines("", 5).empty());
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
    ProgressLine line;
    line.show({{"step 1/9"}, {std::string(60, 'x'), 1}});
    std::this_thread::sleep_for(std::chrono::milliseconds(2500));
    line.clear();
    std::this_thread::sleep_for(std::chrono::milliseconds(1200));  // no line: nothing to count
  });
  const std::string begin = "\rstep 1/9\x1b[K\rstep 1/9 · 1s\x1b[K";
  CHECK(written.substr(0, begin.size()) == begin);
  CHECK(written.ends_with("s\x1b[K\r\x1b[K"));
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
          ProgressLine line(std::chrono::milliseconds(300));
          for (int i = 0; i < 5; ++i) {
            if (line.due()) line.show(std::to_string(i));  // only the one after the pause is
            if (i == 2) std::this_thread::sleep_for(std::chrono::milliseconds(350));
          }
        }) == "3\n");
  CHECK(written_by(false, [] {
          ProgressLine line;
          line.show("nothing yet");
        }).empty());
}

TEST_CASE("a table aligns words on the left and numbers on the right") {
  CHECK(format_table({{"model", "size"}, {"gpt2", "124M"}, {"é", "5 MB"}}) ==
        "  model  size\n  gpt2   124M\n  é      5 MB\n");
}

}  // namespace
}  // namespace quire

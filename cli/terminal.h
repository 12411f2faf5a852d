// What the program prints, and how it looks on a terminal.
//
// Results go to stdout through print(), everything else to stderr: notes, tables for people, and
// the progress line. Only cli/ prints.
#pragma once

#include <chrono>
#include <condition_variable>
#include <limits>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "base/numbers.h"
#include "base/text_width.h"

namespace quire {

/// Thrown by print() when the reader of stdout has gone (`quire generate … | head -1`). main() ends
/// the program quietly on it.
struct OutputClosed {};

/// Writes to stdout and flushes. Throws OutputClosed, and Error(no_space) when stdout is a file on
/// a full disk.
void print(std::string_view text);
/// The same for people: on a terminal, lines are broken between words as those of note() are.
void print_lines(std::string_view text);
/// For work that is worth more than what it prints: from now on print() warns the first time it
/// cannot write, and prints nothing after that.
void go_on_without_output();
/// After it: the exit code of a run that lost its output to a full disk, say; 0 where nothing was
/// lost, or the reader had gone, who wanted no more.
int lost_output_exit_code();

/// A line on stderr, unless --quiet. Never fails.
void note(std::string_view line);
/// "warning: …" on stderr, also when quiet.
void warn(std::string_view line);
/// The message of an error after which the program goes on, on stderr, also when quiet.
void report_error(std::string_view message);
/// A question on stderr, also when quiet: the answer is waited for behind it.
void ask(std::string_view question);
/// With U+FFFD for control characters but line ends and tabs:
/// what a file holds may stand in messages.
std::string without_controls(std::string_view text);
/// From now on note() and ProgressLine say nothing.
void set_quiet();
bool is_quiet();
/// From now on nothing is printed, results and warnings included: where another process speaks.
void set_silent();

bool stdout_is_terminal();
/// A terminal that can rewrite a line: not where TERM is "dumb".
bool stderr_is_terminal();
/// Columns of the terminal behind stderr (or $COLUMNS), 80 where there is none.
int terminal_width();
/// Columns of the terminal behind stdout, `elsewhere` where there is none.
int output_columns(int elsewhere = std::numeric_limits<int>::max());

/// `text` in bold where stdout is a terminal and NO_COLOR is not set; as it is elsewhere.
std::string bold(std::string_view text);

/// Text for stderr: on a terminal, lines that are too long for it are broken between words, further
/// ones indented below the first, and "try: quire" names the program as this shell finds it. A command, also behind "try:", gets a backslash at the end
/// of what goes on, and can be copied; a line that begins with "python3 ", most of it in quotes, is
/// left as it is.
std::string for_terminal(std::string_view text);
/// The same for so many columns.
std::string break_lines(std::string_view text, int columns);
/// A part of a line that may have to be shorter. Where there is no room, parts of the highest
/// `rank` go first, of one rank the last; those of rank 0 stay.
struct LinePart {
  std::string text;
  int rank = 0;
};
/// The parts that fit into so many columns, spaces between them.
/// Cut only where those of rank 0 do not fit.
std::string fit_parts(std::vector<LinePart> parts, int columns);

/// One line on stderr that changes in place. When nothing new is shown for a second, it counts the
/// seconds: something moves while a step takes minutes. Where stderr is no terminal, what is shown
/// becomes a plain line every half minute.
class ProgressLine {
 public:
  ProgressLine() = default;
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;
  ~ProgressLine();

  /// True when show() has an effect now: it is rate-limited to ten a second. Ask before formatting.
  bool due() const;
  /// Replaces the line. As many of the parts as the terminal has room for.
  void show(std::vector<LinePart> parts);
  void show(std::string text) { show(std::vector<LinePart>{{std::move(text)}}); }
  /// A line that stays, above the moving one.
  void print(std::string_view line);
  /// Removes the moving line.
  void clear();

 private:
  void draw() const;
  void count_seconds();

  mutable std::mutex mutex_;  // of all below
  std::chrono::steady_clock::time_point shown_at_ = std::chrono::steady_clock::now();
  bool shown_ = false, ended_ = false;
  std::vector<LinePart> parts_;
  std::condition_variable end_;
  std::thread clock_;  // on a terminal, from the first line on
};

/// For what is said of how long something took.
class Stopwatch {
 public:
  /// Since it was made.
  double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count();
  }

 private:
  std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
};

/// A moving line is on the terminal. For signal handlers.
bool line_is_shown();

/// Seconds of "90s", "30m", "1.5h", "1h30m", "2d"; a bare number is hours. Throws Error(usage)
/// naming the option for anything else, and for no time at all.
double parse_duration(const std::string& option, std::string_view text);

}  // namespace quire

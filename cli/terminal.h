// What the program prints, and how it looks on a terminal.
//
// Results go to stdout through print(), everything else to stderr: notes, tables for people, and
// the progress line. Only cli/ prints.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace quire {

/// Thrown by print() when the reader of stdout has gone (`quire generate … | head -1`). main() ends
/// the program quietly on it.
struct OutputClosed {};

/// Writes to stdout and flushes. Throws OutputClosed, and Error(no_space) when stdout is a file on
/// a full disk.
void print(std::string_view text);

/// A line on stderr, unless --quiet. Never fails.
void note(std::string_view line);
/// "warning: …" on stderr, also when quiet.
void warn(std::string_view line);
/// The message of an error after which the program goes on, on stderr, also when quiet.
void report_error(std::string_view message);
/// With U+FFFD for control characters but line ends and tabs: what a file holds may stand in messages.
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

/// `text` in bold or dimmed where stdout is a terminal and NO_COLOR is not set; as it is elsewhere.
std::string bold(std::string_view text);
std::string dim(std::string_view text);

/// One line on stderr that changes in place. Where stderr is no terminal only print() shows.
class ProgressLine {
 public:
  ProgressLine() = default;
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;
  ~ProgressLine() { clear(); }

  /// True when show() has an effect now: it is rate-limited to ten a second. Ask before formatting.
  bool due() const;
  /// Replaces the line. Cut to the width of the terminal.
  void show(std::string_view text);
  /// A line that stays, above the moving one.
  void print(std::string_view line);
  /// Removes the moving line.
  void clear();

 private:
  std::chrono::steady_clock::time_point shown_at_{};
  bool shown_ = false;
};

/// Columns that the text takes on a terminal: 2 for East Asian wide characters and emoji, 0 for
/// combining marks.
int display_width(std::string_view utf8);
/// At most `columns` wide, with "…" at the end where something was cut.
std::string cut_to_width(std::string_view utf8, int columns);

/// The shortest text that reads back as the same number: "0.1", "5e-05", "1e-05", "20".
std::string compact_number(float value);
std::string compact_number(double value);
std::string human_bytes(double bytes);       ///< "12.3 MB", powers of 1000
std::string human_duration(double seconds);  ///< "8.3s", "2m 05s", "1h 02m"
std::string human_count(double value);       ///< "124M", "1.56B", "4,096"

/// Seconds of "90s", "30m", "1.5h", "1h30m", "2d"; a bare number is hours. Throws Error(usage)
/// naming the option for anything else, and for no time at all.
double parse_duration(const std::string& option, std::string_view text);

/// A table with aligned columns. The first row is the heading; columns whose cells are numbers are
/// aligned on the right. Each line begins with two spaces.
std::string format_table(const std::vector<std::vector<std::string>>& rows);

}  // namespace quire

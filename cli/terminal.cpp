#include "cli/terminal.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <fmt/format.h>
#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <cstring>

#include "base/error.h"
#include "base/text.h"

namespace quire {
namespace {

bool g_quiet = false, g_silent = false;

// Writes everything to a descriptor; returns 0 or the error's number.
int write_all(int descriptor, std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::write(descriptor, text.data(), text.size());
    if (written < 0) {
      if (errno == EINTR) continue;
      return errno;
    }
    text.remove_prefix(static_cast<std::size_t>(written));
  }
  return 0;
}

bool is_terminal(int descriptor) {
  const char* kind = std::getenv("TERM");
  return ::isatty(descriptor) != 0 && (kind == nullptr || std::strcmp(kind, "dumb") != 0);
}

std::string styled(std::string_view text, std::string_view code) {
  const char* no_color = std::getenv("NO_COLOR");
  const bool plain = no_color != nullptr && *no_color != '\0';
  if (plain || !stdout_is_terminal()) return std::string(text);
  return fmt::format("\x1b[{}m{}\x1b[0m", code, text);
}

// Reads one character of UTF-8 at `at` and moves past it; a stray byte counts as one character.
char32_t next_character(std::string_view text, std::size_t& at) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(at);
  const std::size_t length = lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  if (lead < 0xC0 || at + length > text.size()) {
    ++at;
    return lead;
  }
  char32_t character = lead & (0xFFu >> (length + 1));
  for (std::size_t i = 1; i < length; ++i) character = (character << 6) | (byte(at + i) & 0x3Fu);
  at += length;
  return character;
}

// Unicode's East Asian Width W and F and the common combining marks, by block: the progress line
// shows numbers and an occasional word of generated text, and block limits serve it well.
int character_width(char32_t c) {
  struct Block {
    char32_t first, last;
  };
  static constexpr Block kZero[] = {{0x0300, 0x036F}, {0x200B, 0x200F}, {0xFE00, 0xFE0F}};
  static constexpr Block kWide[] = {{0x1100, 0x115F},   {0x2E80, 0x303E},   {0x3041, 0xA4CF},
                                    {0xAC00, 0xD7A3},   {0xF900, 0xFAFF},   {0xFE30, 0xFE6F},
                                    {0xFF00, 0xFF60},   {0xFFE0, 0xFFE6},   {0x1F300, 0x1F64F},
                                    {0x1F680, 0x1F6FF}, {0x1F900, 0x1F9FF}, {0x20000, 0x3FFFD}};
  const auto holds = [c](const Block& block) { return c >= block.first && c <= block.last; };
  if (std::any_of(std::begin(kZero), std::end(kZero), holds)) return 0;
  if (std::any_of(std::begin(kWide), std::end(kWide), holds)) return 2;
  return 1;
}

template <class T>
std::string shortest(T value) {
  std::array<char, 64> text{};
  const auto [end, trouble] = std::to_chars(text.data(), text.data() + text.size(), value);
  return trouble == std::errc() ? std::string(text.data(), end) : std::to_string(value);
}

// Three significant digits and a unit: 999 -> "999", 1234 -> "1.23k".
std::string scaled(double value, const std::array<const char*, 5>& units) {
  std::size_t unit = 0;
  // 999.5 would be shown as 1000 of the smaller unit.
  while (std::abs(value) >= 999.5 && unit + 1 < units.size()) {
    value /= 1000;
    ++unit;
  }
  const int decimals = unit == 0                 ? 0
                       : std::abs(value) < 9.995 ? 2
                       : std::abs(value) < 99.95 ? 1
                                                 : 0;
  return fmt::format("{:.{}f}{}", value, decimals, units[unit]);
}

}  // namespace

void print(std::string_view text) {
  if (g_silent) return;
  const int trouble = write_all(STDOUT_FILENO, text);
  if (trouble == EPIPE) throw OutputClosed{};
  if (trouble != 0) {
    throw Error(trouble == ENOSPC ? Fault::no_space : Fault::bad_data,
                std::string("cannot write to standard output: ") + std::strerror(trouble));
  }
}

void note(std::string_view line) {
  if (!g_quiet) write_all(STDERR_FILENO, std::string(line) + "\n");
}

void warn(std::string_view line) {
  if (!g_silent) write_all(STDERR_FILENO, "warning: " + without_controls(line) + "\n");
}

void report_error(std::string_view message) {
  if (!g_silent) write_all(STDERR_FILENO, without_controls(message) + "\n");
}

std::string without_controls(std::string_view text) {
  std::string shown;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    const bool control = (byte < ' ' && c != '\n' && c != '\t') || byte == 0x7F;
    shown += control ? std::string_view("\xEF\xBF\xBD") : std::string_view(&c, 1);
  }
  return shown;
}

void set_quiet() {
  g_quiet = true;
}
bool is_quiet() {
  return g_quiet;
}
void set_silent() {
  g_quiet = g_silent = true;
}

bool stdout_is_terminal() {
  return is_terminal(STDOUT_FILENO);
}
bool stderr_is_terminal() {
  return is_terminal(STDERR_FILENO);
}

int terminal_width() {
  winsize size{};
  if (::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
  const char* columns = std::getenv("COLUMNS");
  const int width = columns != nullptr ? std::atoi(columns) : 0;
  return width > 0 ? width : 80;
}

std::string bold(std::string_view text) {
  return styled(text, "1");
}
std::string dim(std::string_view text) {
  return styled(text, "2");
}

bool ProgressLine::due() const {
  if (g_quiet || !stderr_is_terminal()) return false;
  return !shown_ || std::chrono::steady_clock::now() - shown_at_ >= std::chrono::milliseconds(100);
}

void ProgressLine::show(std::string_view text) {
  if (!due()) return;
  // One column stays free: a full line would wrap on some terminals. \x1b[K clears to the end.
  write_all(STDERR_FILENO, "\r" + cut_to_width(text, terminal_width() - 1) + "\x1b[K");
  shown_at_ = std::chrono::steady_clock::now();
  shown_ = true;
}

void ProgressLine::print(std::string_view line) {
  clear();
  note(line);
}

void ProgressLine::clear() {
  if (shown_) write_all(STDERR_FILENO, "\r\x1b[K");
  shown_ = false;
}

int display_width(std::string_view utf8) {
  int width = 0;
  for (std::size_t at = 0; at < utf8.size();) width += character_width(next_character(utf8, at));
  return width;
}

std::string cut_to_width(std::string_view utf8, int columns) {
  if (display_width(utf8) <= columns) return std::string(utf8);
  int width = 0;
  std::size_t at = 0;
  while (at < utf8.size()) {
    std::size_t after = at;
    width += character_width(next_character(utf8, after));
    if (width > columns - 1) break;
    at = after;
  }
  return std::string(utf8.substr(0, at)) + "…";
}

std::string compact_number(float value) {
  return shortest(value);
}
std::string compact_number(double value) {
  return shortest(value);
}

std::string human_bytes(double bytes) {
  return scaled(bytes, {" B", " kB", " MB", " GB", " TB"});
}

double parse_duration(const std::string& option, std::string_view text) {
  double seconds = 0;
  bool fits = !text.empty();
  for (std::string_view rest = text; fits && !rest.empty();) {
    const bool first = rest.size() == text.size();
    double value = 0;
    const auto [end, error] =
        std::from_chars(rest.data(), rest.data() + rest.size(), value, std::chars_format::fixed);
    rest.remove_prefix(static_cast<std::size_t>(end - rest.data()));
    const std::string_view unit = rest.substr(0, 1);
    const double scale = (first && rest.empty()) || unit == "h" ? 3600.0
                         : unit == "d"                          ? 86400.0
                         : unit == "m"                          ? 60.0
                         : unit == "s"                          ? 1.0
                                                                : 0.0;
    fits = error == std::errc() && scale > 0 && value >= 0;
    seconds += scale * value;
    rest.remove_prefix(unit.size());
  }
  if (fits && std::isfinite(seconds) && seconds > 0) return seconds;
  throw Error(Fault::usage, option + " is '" + std::string(text) + "'",
              {"it must be a time above 0: 90s, 30m, 1h30m, or a number of hours"},
              option + " 30m");
}

std::string human_count(double value) {
  if (value < 99999.5) return with_commas(std::llround(value));
  return scaled(value, {"", "k", "M", "B", "T"});
}

std::string human_duration(double seconds) {
  if (!(seconds >= 0) || seconds > 1e9) return "?";
  if (seconds < 9.95) return fmt::format("{:.1f}s", seconds);
  const auto whole = std::llround(seconds);
  if (whole < 60) return fmt::format("{}s", whole);
  if (whole < 3600) return fmt::format("{}m {:02}s", whole / 60, whole % 60);
  if (whole < 86400) return fmt::format("{}h {:02}m", whole / 3600, whole % 3600 / 60);
  return fmt::format("{}d {:02}h", whole / 86400, whole % 86400 / 3600);
}

std::string format_table(const std::vector<std::vector<std::string>>& rows) {
  std::vector<int> widths;
  std::vector<bool> numeric;
  for (std::size_t r = 0; r < rows.size(); ++r) {
    widths.resize(std::max(widths.size(), rows[r].size()), 0);
    numeric.resize(widths.size(), true);
    for (std::size_t c = 0; c < rows[r].size(); ++c) {
      const std::string& cell = rows[r][c];
      widths[c] = std::max(widths[c], display_width(cell));
      const bool number = cell.empty() || cell == "-" || cell.find_first_of("0123456789") == 0;
      if (r > 0 && !number) numeric[c] = false;
    }
  }
  std::string text;
  for (const std::vector<std::string>& row : rows) {
    std::string line = " ";
    for (std::size_t c = 0; c < row.size(); ++c) {
      const std::string padding(static_cast<std::size_t>(widths[c] - display_width(row[c])), ' ');
      line += " " + (numeric[c] ? padding + row[c] : row[c] + padding) + " ";
    }
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + "\n";
  }
  return text;
}

}  // namespace quire

#include "cli/terminal.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <fmt/format.h>
#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <limits>

#include "base/error.h"
#include "base/text.h"
#include "pipeline/resources.h"

namespace quire {
namespace {

bool g_quiet = false, g_silent = false;
bool g_goes_on_without_output = false;
int g_output_trouble = 0;  // why stdout is not written to any more
volatile std::sig_atomic_t g_line_is_shown = 0;

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

Fault fault_of_output(int trouble) {
  return trouble == ENOSPC || trouble == EDQUOT || trouble == EFBIG ? Fault::no_space
                                                                    : Fault::bad_data;
}

bool is_terminal(int descriptor) {
  const char* kind = std::getenv("TERM");
  return ::isatty(descriptor) != 0 && (kind == nullptr || std::strcmp(kind, "dumb") != 0);
}

// Columns of the terminal behind a descriptor; where there is none, or it does not say, those of the
// environment.
int columns_of(int descriptor) {
  winsize size{};
  if (::ioctl(descriptor, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
  const char* columns = std::getenv("COLUMNS");
  const int width = columns != nullptr ? std::atoi(columns) : 0;
  return width > 0 ? width : 80;
}

/// Where what is broken off a line goes on: below the value of "  label   value", else two columns
/// further than the line begins.
std::size_t hanging_indent(std::string_view line, std::size_t columns) {
  const std::size_t begin = std::min(line.find_first_not_of(' '), line.size());
  if (line.substr(begin).starts_with("try: ")) return begin + 5;
  const std::size_t gap = line.find("  ", begin);
  if (gap == std::string_view::npos) return begin + 2;
  const std::size_t value = line.find_first_not_of(' ', gap);
  return value == std::string_view::npos || value > columns / 2 ? begin + 2 : value;
}

/// Whether a shell is to run the line.
bool is_command(std::string_view line) {
  line.remove_prefix(std::min(line.find_first_not_of(' '), line.size()));
  if (line.starts_with("try: ")) line.remove_prefix(5);
  const std::string_view program = line.substr(0, line.find(' '));
  return program == "quire" || program.ends_with("/quire") || program == "mpirun" ||
         program == "echo";
}

/// The last place of `line` to break it at: a space with at most so many columns before it, not among
/// the spaces it begins with. In a command not in quotes, and before an option where the line is half
/// full by then: its value stays with it. npos: there is none.
std::size_t last_break(std::string_view line, std::size_t columns, bool command) {
  std::size_t cut = std::string::npos, before_option = 0;
  char quote = '\0';
  for (std::size_t at = std::min(line.find_first_not_of(' '), line.size()); at < line.size();
       ++at) {
    const char c = line[at];
    if (command && quote == '\0' && (c == '\'' || c == '"')) {
      quote = c;
    } else if (c == quote) {
      quote = '\0';
    } else if (c == ' ' && quote == '\0') {
      if (display_width(line.substr(0, at)) > static_cast<int>(columns)) break;
      cut = at;
      if (line.substr(at).starts_with(" -")) before_option = at;
    }
  }
  return command && before_option >= columns / 2 ? before_option : cut;
}

std::string break_line(std::string_view line, std::size_t columns) {
  std::string out;
  const bool command = is_command(line);
  const std::size_t room = columns - std::min<std::size_t>(columns, command ? 2 : 0);  // for " \\"
  const std::string indent(command ? std::min(line.find_first_not_of(' '), line.size()) + 4
                                   : hanging_indent(line, columns),
                           ' ');
  std::string rest(line);
  while (display_width(rest) > static_cast<int>(columns)) {
    const std::size_t cut = last_break(rest, room, command);
    if (cut == std::string::npos) break;
    out += rest.substr(0, rest.find_last_not_of(' ', cut) + 1) + (command ? " \\\n" : "\n");
    rest = indent + rest.substr(std::min(rest.find_first_not_of(' ', cut), rest.size()));
  }
  return out + rest;
}

}  // namespace

void print(std::string_view text) {
  if (g_silent || g_output_trouble != 0) return;
  const int trouble = write_all(STDOUT_FILENO, text);
  if (trouble == 0) return;
  const std::string why = std::string("cannot write to standard output: ") + std::strerror(trouble);
  if (g_goes_on_without_output) {
    g_output_trouble = trouble;
    warn(trouble == EPIPE ? "nobody reads standard output any more: going on without it"
                          : why + ": going on without it");
    return;
  }
  if (trouble == EPIPE) throw OutputClosed{};
  throw Error(fault_of_output(trouble), why);
}

void print_lines(std::string_view text) {
  print(stdout_is_terminal() ? break_lines(text, output_columns()) : std::string(text));
}

void go_on_without_output() {
  g_goes_on_without_output = true;
}

int lost_output_exit_code() {
  if (g_output_trouble == 0 || g_output_trouble == EPIPE) return 0;
  return static_cast<int>(fault_of_output(g_output_trouble));
}

void note(std::string_view line) {
  if (!g_quiet) write_all(STDERR_FILENO, for_terminal(line) + "\n");
}

void warn(std::string_view line) {
  if (g_silent) return;
  write_all(STDERR_FILENO, for_terminal("warning: " + without_controls(line)) + "\n");
}

void report_error(std::string_view message) {
  if (!g_silent) write_all(STDERR_FILENO, for_terminal(without_controls(message)) + "\n");
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

void ask(std::string_view question) {
  write_all(STDERR_FILENO, question);
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
  return columns_of(STDERR_FILENO);
}
int output_columns(int elsewhere) {
  return stdout_is_terminal() ? columns_of(STDOUT_FILENO) : elsewhere;
}

std::string bold(std::string_view text) {
  const char* no_color = std::getenv("NO_COLOR");
  const bool plain = no_color != nullptr && *no_color != '\0';
  if (plain || !stdout_is_terminal()) return std::string(text);
  return fmt::format("\x1b[1m{}\x1b[0m", text);
}

std::string break_lines(std::string_view text, int columns) {
  std::string out;
  while (true) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, end);
    const std::size_t begin = line.find_first_not_of(' ');
    const std::string_view first = line.substr(std::min(begin, line.size()));
    out += first.starts_with("python3 ") ? std::string(line)
                                         : break_line(line, static_cast<std::size_t>(columns));
    if (end == text.size()) return out;
    out += "\n";
    text.remove_prefix(end + 1);
  }
}

std::string for_terminal(std::string_view text) {
  if (!stderr_is_terminal()) return std::string(text);
  // What is copied from here must find the program.
  constexpr std::string_view kBegin = "\n  try: ", kName = "quire ";
  std::string lines = "\n" + std::string(text);
  for (std::size_t at = 0; (at = lines.find(kBegin, at)) != std::string::npos;) {
    at += kBegin.size();
    if (lines.compare(at, kName.size(), kName) == 0) {
      lines.replace(at, kName.size() - 1, program_as_typed());
    }
  }
  return break_lines(std::string_view(lines).substr(1), terminal_width());
}

std::string fit_parts(std::vector<LinePart> parts, int columns) {
  const auto joined = [&] {
    std::string line;
    for (const LinePart& part : parts) line += (line.empty() ? "" : " ") + part.text;
    return line;
  };
  std::string line = joined();
  while (display_width(line) > columns) {
    const auto least = std::max_element(
        parts.rbegin(), parts.rend(), [](const auto& a, const auto& b) { return a.rank < b.rank; });
    if (least == parts.rend() || least->rank == 0) break;
    parts.erase(std::next(least).base());
    line = joined();
  }
  return cut_to_width(line, columns);
}

ProgressLine::~ProgressLine() {
  {
    const std::lock_guard lock(mutex_);
    ended_ = true;
  }
  end_.notify_all();
  if (clock_.joinable()) clock_.join();
  clear();
}

bool ProgressLine::due() const {
  if (g_quiet) return false;
  const std::lock_guard lock(mutex_);
  const auto since = std::chrono::steady_clock::now() - shown_at_;
  if (!stderr_is_terminal()) return since >= std::chrono::seconds(30);
  return !shown_ || since >= std::chrono::milliseconds(100);
}

void ProgressLine::draw() const {
  // One column stays free: a full line would wrap on some terminals. \x1b[K clears to the end.
  std::vector<LinePart> parts = parts_;
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(
      std::chrono::steady_clock::now() - shown_at_);
  if (seconds.count() > 0) {
    parts.push_back(
        {"· " + (seconds.count() < 10 ? fmt::format("{}s", seconds.count())
                                      : human_duration(static_cast<double>(seconds.count())))});
  }
  write_all(STDERR_FILENO, "\r" + fit_parts(std::move(parts), terminal_width() - 1) + "\x1b[K");
}

void ProgressLine::count_seconds() {
  std::unique_lock lock(mutex_);
  while (!end_.wait_for(lock, std::chrono::seconds(1), [this] { return ended_; })) {
    if (shown_ && std::chrono::steady_clock::now() - shown_at_ >= std::chrono::seconds(1)) draw();
  }
}

void ProgressLine::show(std::vector<LinePart> parts) {
  if (!due()) return;
  const std::lock_guard lock(mutex_);
  parts_ = std::move(parts);
  shown_at_ = std::chrono::steady_clock::now();
  if (!stderr_is_terminal()) {
    note(fit_parts(parts_, std::numeric_limits<int>::max()));
    return;
  }
  g_line_is_shown = 1;
  shown_ = true;
  draw();
  if (clock_.joinable()) return;
  // Signals go to the thread that works.
  sigset_t all, before;
  sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  clock_ = std::thread([this] { count_seconds(); });
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

void ProgressLine::print(std::string_view line) {
  clear();
  note(line);
}

void ProgressLine::clear() {
  const std::lock_guard lock(mutex_);
  if (shown_) write_all(STDERR_FILENO, "\r\x1b[K");
  shown_ = false;
  g_line_is_shown = 0;
  // Whatever comes instead of it is a sign of life too.
  shown_at_ = std::chrono::steady_clock::now();
}

bool line_is_shown() {
  return g_line_is_shown != 0;
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

}  // namespace quire

#include "cli/signals.h"

#include <unistd.h>

#include <csignal>
#include <cstddef>
#include <cstring>

#include "cli/terminal.h"

namespace quire {
namespace {

constexpr std::array<int, 3> kSignals = {SIGINT, SIGTERM, SIGUSR1};
constexpr const char* kClearLine = "\r\x1b[K";

volatile std::sig_atomic_t g_signal = 0;
const char* volatile g_doing = nullptr;
volatile std::sig_atomic_t g_on_terminal = 0;

// All that follows is called by signal handlers: write() and little else is safe in them.

void say(const char* text) {
  // It cannot be written: then it is not said.
  if (::write(STDERR_FILENO, text, std::strlen(text)) < 0) return;
}

void on_signal(int number) {
  if (g_doing != nullptr) {
    // What the terminal has echoed ("^C") goes with the line it stands in.
    if (g_on_terminal != 0) say(kClearLine);
    if (g_signal == 0) {
      say(g_doing);
      say("; again to stop now\n");
    } else {
      say("stopped\n");
    }
  }
  if (g_signal != 0) ::_exit(128 + number);  // the second time
  g_signal = number;
}

void on_signal_without_guard(int number) {
  if (line_is_shown()) say(kClearLine);
  ::signal(number, SIG_DFL);
  ::raise(number);  // blocked until this function has returned
}

struct sigaction action_of(void (*handler)(int)) {
  struct sigaction action {};
  action.sa_handler = handler;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  return action;
}

}  // namespace

InterruptGuard::InterruptGuard(const char* doing) : outer_(g_doing) {
  g_doing = is_quiet() ? nullptr : doing;
  g_on_terminal = stderr_is_terminal();
  const struct sigaction action = action_of(on_signal);
  for (std::size_t i = 0; i < kSignals.size(); ++i) ::sigaction(kSignals[i], &action, &before_[i]);
}

InterruptGuard::~InterruptGuard() {
  for (std::size_t i = 0; i < kSignals.size(); ++i) {
    ::sigaction(kSignals[i], &before_[i], nullptr);
  }
  g_doing = outer_;
}

void leave_clean_line_on_signals() {
  for (const int number : {SIGINT, SIGTERM}) {
    struct sigaction before {};
    ::sigaction(number, nullptr, &before);
    if (before.sa_handler == SIG_IGN) continue;  // as nohup has it
    const struct sigaction action = action_of(on_signal_without_guard);
    ::sigaction(number, &action, nullptr);
  }
}

bool interrupted() {
  return g_signal != 0;
}
int interrupt_exit_code() {
  return g_signal == 0 ? 0 : 128 + g_signal;
}

}  // namespace quire

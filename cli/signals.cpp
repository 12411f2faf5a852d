#include "cli/signals.h"

#include <unistd.h>

#include <csignal>

namespace quire {
namespace {

volatile std::sig_atomic_t g_signal = 0;

void on_signal(int number) {
  if (g_signal != 0) ::_exit(128 + number);  // the second time; only _exit is safe here
  g_signal = number;
}

void set_handler(void (*handler)(int)) {
  struct sigaction action {};
  action.sa_handler = handler;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  ::sigaction(SIGINT, &action, nullptr);
  ::sigaction(SIGTERM, &action, nullptr);
  ::sigaction(SIGUSR1, &action, nullptr);
}

}  // namespace

InterruptGuard::InterruptGuard() {
  set_handler(on_signal);
}
InterruptGuard::~InterruptGuard() {
  set_handler(SIG_DFL);
}

bool interrupted() {
  return g_signal != 0;
}
int interrupt_exit_code() {
  return g_signal == 0 ? 0 : 128 + g_signal;
}

}  // namespace quire

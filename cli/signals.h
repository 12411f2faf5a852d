// Ctrl-C, SIGTERM and SIGUSR1: the first one asks, the second one ends the program at once. SIGUSR1
// is what batch systems send ahead of the end, and what mpirun passes on to all processes.
//
//   InterruptGuard interrupts("finishing this step");
//   callbacks.stop_requested = [] { return interrupted(); };
//   …
//   if (interrupted()) return interrupt_exit_code();
//
// Commands without such a loop do without the guard; there a signal ends the program as usual.
#pragma once

#include <signal.h>

#include <array>

namespace quire {

/// While one exists, the first of these signals only sets the flag; a second one exits with 128 and
/// its number. It answers at once, on stderr and unless quiet: "finishing this step; again to stop
/// now". Guards may be nested; the innermost one answers.
class InterruptGuard {
 public:
  /// `doing`: what is still done after the first signal, or nullptr where no answer is needed. Must
  /// outlive the guard.
  explicit InterruptGuard(const char* doing = nullptr);
  ~InterruptGuard();
  InterruptGuard(const InterruptGuard&) = delete;
  InterruptGuard& operator=(const InterruptGuard&) = delete;

 private:
  const char* outer_;
  std::array<struct sigaction, 3> before_;
};

/// Where there is no guard, Ctrl-C and SIGTERM remove the moving line before they end the program.
void leave_clean_line_on_signals();

bool interrupted();
/// 130 after SIGINT, 143 after SIGTERM, 138 after SIGUSR1, 0 before.
int interrupt_exit_code();

}  // namespace quire

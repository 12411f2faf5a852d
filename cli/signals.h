// Ctrl-C, SIGTERM and SIGUSR1: the first one asks, the second one ends the program at once. SIGUSR1
// is what batch systems send ahead of the end, and what mpirun passes on to all processes.
//
//   InterruptGuard interrupts;
//   callbacks.stop_requested = [] { return interrupted(); };
//   …
//   if (interrupted()) return interrupt_exit_code();
//
// Commands without such a loop do without the guard; there a signal ends the program as usual.
#pragma once

namespace quire {

/// While one exists, the first of these signals only sets the flag; a second one exits with 128 and
/// its number.
class InterruptGuard {
 public:
  InterruptGuard();
  ~InterruptGuard();
  InterruptGuard(const InterruptGuard&) = delete;
  InterruptGuard& operator=(const InterruptGuard&) = delete;
};

bool interrupted();
/// 130 after SIGINT, 143 after SIGTERM, 138 after SIGUSR1, 0 before.
int interrupt_exit_code();

}  // namespace quire

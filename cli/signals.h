// Ctrl-C and SIGTERM: the first one asks, the second one ends the program at once.
//
//   InterruptGuard interrupts;
//   callbacks.stop_requested = [] { return interrupted(); };
//   …
//   if (interrupted()) return interrupt_exit_code();
//
// Commands without such a loop do without the guard; there a signal ends the program as usual.
#pragma once

namespace quire {

/// While one exists, the first SIGINT or SIGTERM only sets the flag; a second one exits with 130 or
/// 143.
class InterruptGuard {
 public:
  InterruptGuard();
  ~InterruptGuard();
  InterruptGuard(const InterruptGuard&) = delete;
  InterruptGuard& operator=(const InterruptGuard&) = delete;
};

bool interrupted();
/// 130 after SIGINT, 143 after SIGTERM, 0 before either.
int interrupt_exit_code();

}  // namespace quire

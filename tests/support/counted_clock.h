// A steady clock that stands still but for what a test lets pass: no test waits for time or bets on it.
#pragma once

#include <chrono>

namespace quire::test {

/// While one exists, in its process, it is what std::chrono::steady_clock shows.
class CountedClock {
 public:
  /// `a_look`: passes whenever somebody looks.
  explicit CountedClock(std::chrono::nanoseconds a_look = {});
  CountedClock(const CountedClock&) = delete;
  CountedClock& operator=(const CountedClock&) = delete;
  ~CountedClock();

  void pass(std::chrono::nanoseconds time);
  /// Waits until other threads have looked so often from now on.
  void await_looks(int count);
};

}  // namespace quire::test

#include "tests/support/counted_clock.h"

#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <thread>

namespace {

std::atomic<bool> g_counted = false;
std::atomic<std::int64_t> g_shown = 0, g_a_look = 0;  // nanoseconds
std::atomic<std::int64_t> g_looks = 0;

}  // namespace

// In the place of the C library's, for std::chrono.
extern "C" int clock_gettime(clockid_t clock, timespec* time) noexcept {
  if (clock != CLOCK_MONOTONIC || !g_counted) {
    return static_cast<int>(::syscall(SYS_clock_gettime, clock, time));
  }
  ++g_looks;
  constexpr std::int64_t kSecond = 1'000'000'000;
  const std::int64_t shown = g_shown.fetch_add(g_a_look);
  time->tv_sec = shown / kSecond;
  time->tv_nsec = shown % kSecond;
  return 0;
}

namespace quire::test {

CountedClock::CountedClock(std::chrono::nanoseconds a_look) {
  g_shown = std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1);
  g_a_look = a_look.count();
  g_counted = true;
}

CountedClock::~CountedClock() {
  g_counted = false;
}

void CountedClock::pass(std::chrono::nanoseconds time) {
  g_shown += time.count();
}

void CountedClock::await_looks(int count) {
  for (const std::int64_t enough = g_looks + count; g_looks < enough;) std::this_thread::yield();
}

}  // namespace quire::test

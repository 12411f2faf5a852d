#include "base/parallel.h"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace quire {

int available_threads() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (::sched_getaffinity(0, sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

void parallel_for(int threads, std::size_t count, const std::function<void(std::size_t)>& work) {
  if (threads <= 0) threads = available_threads();
  std::atomic<std::size_t> next{0};
  std::atomic<bool> failed{false};
  std::mutex mutex;
  std::size_t failed_index = count;
  std::exception_ptr exception;
  const auto run = [&] {
    while (!failed.load(std::memory_order_relaxed)) {
      const std::size_t index = next.fetch_add(1);
      if (index >= count) return;
      try {
        work(index);
      } catch (...) {
        // Every lower index has been handed out before this one and runs to its end.
        const std::lock_guard lock(mutex);
        if (index < failed_index) {
          failed_index = index;
          exception = std::current_exception();
        }
        failed = true;
      }
    }
  };
  const std::size_t helpers = std::min(static_cast<std::size_t>(threads), count);
  std::vector<std::jthread> pool;
  for (std::size_t i = 1; i < helpers; ++i) pool.emplace_back(run);
  run();
  pool.clear();
  if (exception) std::rethrow_exception(exception);
}

}  // namespace quire

#include "base/parallel.h"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <exception>
#include <fstream>
#include <mutex>
#include <sstream>
#include <thread>
#include <vector>

namespace quire {

int available_threads() {
  int processors = std::thread::hardware_concurrency();
  cpu_set_t set;
  CPU_ZERO(&set);
  if (::sched_getaffinity(0, sizeof set, &set) == 0) processors = CPU_COUNT(&set);
  std::string cpu_max;
  std::ifstream file("/sys/fs/cgroup/cpu.max");  // the root of what a container sees
  std::getline(file, cpu_max);
  return within_quota(processors, cpu_max);
}

int within_quota(int processors, const std::string& cpu_max) {
  processors = std::max(1, processors);
  std::istringstream words(cpu_max);
  double quota = 0;
  double period = 0;
  if (!(words >> quota >> period) || quota <= 0 || period <= 0) return processors;
  return static_cast<int>(
      std::clamp(std::ceil(quota / period), 1.0, static_cast<double>(processors)));
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

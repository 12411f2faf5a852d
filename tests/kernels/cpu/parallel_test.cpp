#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "base/error.h"
#include "kernels/cpu/parallel.h"
#include "tests/support/catch.h"

namespace quire::cpu {
namespace {

TEST_CASE("a thread pool runs each task once, whatever the numbers of tasks and threads") {
  for (const int threads : {1, 2, 3, 8}) {
    ThreadPool pool(threads);
    REQUIRE(pool.threads() == threads);
    for (const std::int64_t tasks : {0, 1, 2, 7, 1000}) {
      std::vector<std::atomic<int>> runs(static_cast<std::size_t>(tasks));
      pool.run(tasks, [&](std::int64_t i) { ++runs[static_cast<std::size_t>(i)]; });
      for (const auto& count : runs) REQUIRE(count == 1);
    }
  }
}

TEST_CASE("each thread of a pool begins a range of its own, not the next task") {
  ThreadPool pool(2);
  std::atomic<int> begun{0};
  std::atomic<bool> early{false};
  pool.run(8, [&](std::int64_t i) {
    if (i != 0 && i != 4) {
      if (begun != 2) early = true;
      return;
    }
    ++begun;
    while (begun != 2) std::this_thread::yield();
  });
  REQUIRE_FALSE(early);
}

TEST_CASE("what a thread does before its first task is done once on each that has tasks") {
  for (const int threads : {1, 2, 20}) {  // 20 share 16 ranges
    ThreadPool pool(threads);
    for (int round = 0; round < 50; ++round) {
      std::atomic<int> begins{0}, unprepared{0};
      const auto begin = [&] {
        ++begins;
        *pool.scratch<int>(1) = round;
      };
      std::atomic<int> done{0};
      pool.run(100, begin, [&](std::int64_t) {
        if (*pool.scratch<int>(1) != round) ++unprepared;
        ++done;
      });
      REQUIRE(done == 100);
      REQUIRE(begins >= 1);
      REQUIRE(begins <= threads);
      REQUIRE(unprepared == 0);
    }
  }
}

TEST_CASE("a thread pool's runs follow each other closely, or after its workers fell asleep") {
  ThreadPool pool(3);
  std::int64_t sum = 0;  // read and written between runs without a lock: run() must be a barrier
  std::int64_t want = 0;
  for (int round = 0; round < 2000; ++round) {
    std::int64_t parts[5] = {};
    pool.run(5, [&](std::int64_t i) { parts[i] = sum + i; });
    for (const std::int64_t part : parts) sum += part % 1000;
    for (std::int64_t i = 0, before = want; i < 5; ++i) want += (before + i) % 1000;
    REQUIRE(sum == want);
    if (round % 200 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
}

TEST_CASE("an exception of a task ends the run and reaches the caller; the pool lives on") {
  for (const int threads : {1, 3}) {
    ThreadPool pool(threads);
    std::atomic<int> runs{0};
    const auto failing = [&](std::int64_t i) {
      if (i == 3) throw std::runtime_error("task 3");
      ++runs;
    };
    REQUIRE_THROWS_WITH(pool.run(100'000, failing), "task 3");
    REQUIRE(runs < 99'999);
    runs = 0;
    pool.run(10, [&](std::int64_t) { ++runs; });
    REQUIRE(runs == 10);
  }
}

TEST_CASE("a task that starts another run is refused") {
  for (const int threads : {1, 2}) {
    ThreadPool pool(threads);
    REQUIRE_THROWS_AS(pool.run(4, [&](std::int64_t) { pool.run(1, [](std::int64_t) {}); }), Error);
    REQUIRE_THROWS_AS(pool.run(1, [&](std::int64_t) { pool.run(1, [](std::int64_t) {}); }), Error);
  }
}

TEST_CASE("scratch belongs to one thread, is aligned, and grows") {
  constexpr std::size_t kThreads = 4;
  ThreadPool pool(kThreads);
  std::mutex mutex;
  std::condition_variable all_here;
  std::set<std::thread::id> threads;
  std::set<std::byte*> blocks;
  pool.run(64, [&](std::int64_t) {
    std::byte* block = pool.scratch(1000);
    std::unique_lock lock(mutex);
    threads.insert(std::this_thread::get_id());
    blocks.insert(block);
    all_here.notify_all();
    all_here.wait(lock, [&] { return threads.size() == kThreads; });
  });
  REQUIRE(blocks.size() == kThreads);
  for (const std::byte* block : blocks) {
    REQUIRE(reinterpret_cast<std::uintptr_t>(block) % 64 == 0);
  }
  pool.run(8, [&](std::int64_t) {
    float* block = pool.scratch<float>(1 << 20);
    block[0] = block[(1 << 20) - 1] = 1.0f;
  });
}

TEST_CASE("a thread count below zero or beyond all bounds is refused") {
  REQUIRE_THROWS_AS(ThreadPool(-1), Error);
  REQUIRE_THROWS_AS(ThreadPool(1 << 20), Error);
}

}  // namespace
}  // namespace quire::cpu

#include "base/parallel.h"

#include <atomic>
#include <chrono>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/catch.h"

namespace {

// What parallel_for() throws.
std::string seen(int threads, std::size_t count, const std::function<void(std::size_t)>& work) {
  try {
    quire::parallel_for(threads, count, work);
  } catch (const std::runtime_error& error) {
    return error.what();
  }
  return "nothing";
}

}  // namespace

TEST_CASE("every index is worked on once, whatever the number of threads") {
  CHECK(quire::available_threads() >= 1);
  for (const int threads : {0, 1, 2, 7}) {
    for (const std::size_t count : {0u, 1u, 3u, 1000u}) {
      std::vector<std::atomic<int>> calls(count);
      quire::parallel_for(threads, count, [&](std::size_t i) { ++calls[i]; });
      for (const auto& call : calls) CHECK(call == 1);
    }
  }
}

TEST_CASE("a control group's quota leaves its share of the processors, rounded up") {
  using quire::within_quota;
  CHECK(within_quota(8, "max 100000") == 8);
  CHECK(within_quota(8, "") == 8);
  CHECK(within_quota(8, "200000 100000") == 2);
  CHECK(within_quota(8, "210000 100000") == 3);
  CHECK(within_quota(8, "20000 100000") == 1);
  CHECK(within_quota(8, "800000000000 100000") == 8);
  CHECK(within_quota(8, "0 100000") == 8);
  CHECK(within_quota(8, "200000") == 8);
  CHECK(within_quota(0, "max 100000") == 1);
}

TEST_CASE("the exception of the lowest index is the one that is seen") {
  for (const int threads : {1, 4}) {
    for (int repeat = 0; repeat < 50; ++repeat) {
      CHECK(seen(threads, 100, [](std::size_t i) {
              if (i % 10 == 3) throw std::runtime_error(std::to_string(i));
            }) == "3");
    }
  }
  // Whichever of two is thrown first.
  for (const std::size_t first : {0u, 1u}) {
    std::atomic<int> started{0};
    std::atomic<bool> thrown{false};
    CHECK(seen(2, 2, [&](std::size_t i) {
            for (++started; started < 2;) std::this_thread::yield();
            if (i == first) {
              thrown = true;
            } else {
              while (!thrown) std::this_thread::yield();
              std::this_thread::sleep_for(std::chrono::milliseconds(5));
            }
            throw std::runtime_error(std::to_string(i));
          }) == "0");
  }
}

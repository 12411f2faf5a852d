#include "base/parallel.h"

#include <atomic>
#include <stdexcept>
#include <string>
#include <vector>

#include "tests/support/catch.h"

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

TEST_CASE("the exception of the lowest index is the one that is seen") {
  for (const int threads : {1, 4}) {
    for (int repeat = 0; repeat < 50; ++repeat) {
      std::string what;
      try {
        quire::parallel_for(threads, 100, [](std::size_t i) {
          if (i % 10 == 3) throw std::runtime_error(std::to_string(i));
        });
      } catch (const std::runtime_error& error) {
        what = error.what();
      }
      CHECK(what == "3");
    }
  }
}

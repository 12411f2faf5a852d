#include "report/svg.h"

#include "tests/support/catch.h"

using namespace quire;

TEST_CASE("ticks are round, in order and inside") {
  using Ticks = std::vector<double>;
  CHECK(round_ticks(0, 1, 4) == Ticks{0, 0.2, 0.4, 0.6, 0.8, 1});
  CHECK(round_ticks(-0.3, 0.3, 3) == Ticks{-0.2, 0, 0.2});
  CHECK(round_ticks(3.77, 6.2, 4) == Ticks{4, 4.5, 5, 5.5, 6});
  CHECK(round_ticks(0, 40, 2.5) == Ticks{0, 10, 20, 30, 40});
  CHECK(log_ticks(1e-5, 1e-2) == Ticks{1e-5, 1e-4, 1e-3, 1e-2});
  CHECK(log_ticks(3e-5, 2e-3) == Ticks{1e-4, 1e-3});
  CHECK(log_ticks(1e-4, 1e-3) == Ticks{1e-4, 2e-4, 5e-4, 1e-3});
  CHECK(log_ticks(2.2, 3.3) == round_ticks(2.2, 3.3, 2));
  CHECK(log_ticks(1e-12, 1e12).size() <= 9);
}

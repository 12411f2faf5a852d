// For gpu_tests_test.py: the process dies while a case is run.
#include <cstdlib>

#include "tests/support/catch.h"

TEST_CASE("before the death") {}
TEST_CASE("the death") {
  std::_Exit(3);
}
TEST_CASE("after the death") {}

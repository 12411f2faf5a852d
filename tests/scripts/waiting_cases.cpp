// For gpu_tests_test.py: a case that does not come back.
#include <unistd.h>

#include "tests/support/catch.h"

TEST_CASE("waits for what does not come") {
  for (;;) pause();
}
TEST_CASE("behind what waits") {}

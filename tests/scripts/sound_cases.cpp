// For gpu_tests_test.py: nothing is wrong here; a fixture is not there.
#include "tests/support/fixtures.h"

TEST_CASE("passes") {}
TEST_CASE("wants a fixture") {
  QUIRE_FIXTURE(path, "no/such/fixture");
  FAIL("it is there: " << path.string());
}

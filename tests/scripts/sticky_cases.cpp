// For gpu_tests_test.py: a fault that stays with the process, as a kernel's illegal access does.
#include <stdexcept>

#include "tests/support/catch.h"

namespace {
bool broken = false;
void use_card() {
  if (broken) throw std::runtime_error("CUDA error: an illegal memory access was encountered");
}
}  // namespace

TEST_CASE("before the fault, a case passes") {
  use_card();
}
TEST_CASE("an expression that does not hold, and no fault") {
  CHECK(1 + 1 == 3);
}
TEST_CASE("the fault, in [brackets], with a comma") {
  broken = true;
  use_card();
}
TEST_CASE("after the fault, first") {
  use_card();
}
TEST_CASE("after the fault, second") {
  use_card();
}

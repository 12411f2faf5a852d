#include "base/decimal.h"

#include <string>

#include "tests/support/catch.h"

using namespace quire;

namespace {

std::string decimal(std::uint32_t number) {
  char text[kDecimalRoom];
  return {text, put_decimal(text, number)};
}

}  // namespace

TEST_CASE("digits of whole numbers are those of std::to_string") {
  std::uint32_t wrong = 0;
  // All numbers of each half; then around all powers of ten.
  for (std::uint32_t n = 0; n < 10000; ++n) {
    wrong += decimal(n) != std::to_string(n);
    wrong += decimal(n * 10000) != std::to_string(n * 10000);
    wrong += decimal(n * 10000 + 9999 - n) != std::to_string(n * 10000 + 9999 - n);
  }
  CHECK(wrong == 0);
  for (std::uint32_t power = 1; power <= kDecimalEnd; power *= 10) {
    for (const std::uint32_t n : {power - 1, power, power + 1}) {
      if (n < kDecimalEnd) CHECK(decimal(n) == std::to_string(n));
    }
  }
}

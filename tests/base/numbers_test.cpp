#include "base/numbers.h"

#include <cmath>
#include <limits>

#include "tests/support/catch.h"

using namespace quire;

TEST_CASE("numbers are written for people") {
  CHECK(human_bytes(999) == "999 B");
  CHECK(human_bytes(12345678) == "12.3 MB");
  CHECK(human_bytes(999999) == "1.00 MB");
  CHECK(human_count(4096) == "4,096");
  CHECK(human_count(124439808) == "124M");
  CHECK(human_count(1557611200) == "1.56B");
  CHECK(human_duration(0) == "0.0s");
  CHECK(human_duration(0.0231) == "0.02s");
  CHECK(human_duration(0.0951) == "0.1s");
  CHECK(human_duration(8.26) == "8.3s");
  CHECK(human_duration(59.6) == "1m 00s");
  CHECK(human_duration(125) == "2m 05s");
  CHECK(human_duration(3725) == "1h 02m");
  CHECK(human_duration(90000) == "1d 01h");
  CHECK(compact_number(0.1f) == "0.1");
  CHECK(compact_number(5e-5f) == "5e-05");
  CHECK(compact_number(20.0) == "20");
  CHECK(compact_number(0.0) == "0");
  CHECK(compact_number(-0.0002f) == "-0.0002");  // one style down to 0.0001
  CHECK(compact_number(1e-4) == "0.0001");
  CHECK(compact_number(9e-5) == "9e-05");
  CHECK(compact_number(1e20) == "1e+20");
  CHECK(rounded_number(4.2345e-5) == "4.2e-05");
  CHECK(rounded_number(2e-4) == "0.0002");
  CHECK(rounded_number(0.00099951) == "0.001");
  CHECK(rounded_number(23.4051, 4) == "23.41");
  CHECK(rounded_number(93765.04, 4) == "93,765");
  CHECK(rounded_number(1234.5678, 2) == "1,235");
  CHECK(rounded_number(6714.3, 5) == "6,714");
  CHECK(fixed_number(4.31372, 4) == "4.3137");
  CHECK(fixed_number(0, 4) == "0.0000");
  CHECK(fixed_number(-74.71835, 2) == "-74.72");
  CHECK(fixed_number(999.96, 1) == "1,000");
  CHECK(fixed_number(93765.0, 1) == "93,765");
  CHECK(fixed_number(-1234.5, 4) == "-1,235");
  CHECK(rounded_number(std::nan("")) == "nan");
  CHECK(rounded_number(std::numeric_limits<double>::infinity()) == "inf");
}

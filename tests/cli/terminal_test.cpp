// Numbers and tables for people, and widths on a terminal.
#include "cli/terminal.h"

#include "tests/support/catch.h"

namespace quire {
namespace {

TEST_CASE("numbers are written for people") {
  CHECK(human_bytes(999) == "999 B");
  CHECK(human_bytes(12345678) == "12.3 MB");
  CHECK(human_bytes(999999) == "1.00 MB");
  CHECK(human_count(4096) == "4,096");
  CHECK(human_count(124439808) == "124M");
  CHECK(human_count(1557611200) == "1.56B");
  CHECK(human_duration(8.26) == "8.3s");
  CHECK(human_duration(59.6) == "1m 00s");
  CHECK(human_duration(125) == "2m 05s");
  CHECK(human_duration(3725) == "1h 02m");
  CHECK(human_duration(90000) == "1d 01h");
  CHECK(compact_number(0.1f) == "0.1");
  CHECK(compact_number(5e-5f) == "5e-05");
  CHECK(compact_number(20.0) == "20");
}

TEST_CASE("widths count columns, not bytes") {
  CHECK(display_width("abc") == 3);
  CHECK(display_width("né") == 2);
  CHECK(display_width("e\u0301") == 1);
  CHECK(display_width("日本") == 4);
  CHECK(display_width("😀") == 2);
  CHECK(display_width("\xff\xfe") == 2);
  CHECK(cut_to_width("abcdef", 6) == "abcdef");
  CHECK(cut_to_width("abcdef", 4) == "abc…");
  CHECK(cut_to_width("日本語", 4) == "日…");
}

TEST_CASE("a table aligns words on the left and numbers on the right") {
  CHECK(format_table({{"model", "size"}, {"gpt2", "124M"}, {"é", "5 MB"}}) ==
        "  model  size\n  gpt2   124M\n  é      5 MB\n");
}

}  // namespace
}  // namespace quire

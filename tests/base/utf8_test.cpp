// UTF-8, each character and each way to be none.
#include "base/utf8.h"

#include <string>
#include <tuple>

#include "base/text.h"
#include "tests/support/catch.h"

using namespace quire;

TEST_CASE("every scalar value is written as UTF-8 and read back, and nothing else is UTF-8") {
  std::string all;
  std::int64_t count = 0;
  for (char32_t code = 0; code <= 0x110000; ++code) {
    std::string text;
    utf8::append(code, text);
    const bool scalar = code < 0x110000 && (code < 0xD800 || code > 0xDFFF);
    if (is_utf8(text) != scalar) FAIL("U+" << std::hex << static_cast<unsigned>(code));
    if (!scalar) continue;
    const auto [read, length] = utf8::character(text.data());
    if (read != code || length != text.size()) {
      FAIL("U+" << std::hex << static_cast<unsigned>(code));
    }
    all += text;
    ++count;
  }
  CHECK(count == 0x110000 - 0x800);
  CHECK(is_utf8(all));
  CHECK(utf8::count_characters(all) == count);
}

TEST_CASE("a step says whether the rest of a character may still come") {
  const auto step = [](std::string_view text) {
    const utf8::Step s = utf8::step(text.data(), text.data() + text.size());
    return std::tuple(s.length, s.valid, s.unfinished);
  };
  CHECK(step("ab") == std::tuple(1, true, false));
  CHECK(step("\xE2\x82\xAC!") == std::tuple(3, true, false));
  CHECK(step("\xE2\x82") == std::tuple(2, false, true));
  CHECK(step("\xE2\x82!") == std::tuple(2, false, false));
  CHECK(step("\xE0\x80\x80") == std::tuple(1, false, false));  // overlong
  CHECK(step("\xAC") == std::tuple(1, false, false));
}

TEST_CASE("the first byte of a character is found from each of its bytes") {
  const std::string text = "a\xE2\x82\xAC\xF0\x9F\x98\x80";
  const std::size_t begins[] = {0, 1, 1, 1, 4, 4, 4, 4};
  for (std::size_t at = 0; at < text.size(); ++at) {
    CHECK(utf8::begin_of_character(text, at) == begins[at]);
  }
  CHECK(utf8::begin_of_character("\x80\x80", 1) == 0);
}

#include "base/text.h"

#include <cstdio>
#include <string>

#include "tests/support/catch.h"

TEST_CASE("UTF-8 is told from what is none, and the rest replaced part by part") {
  const std::string bad = "\xEF\xBF\xBD";
  struct Case {
    std::string bytes, replaced;
  };
  // Invalid parts as the Unicode Standard's table 3-8 groups them.
  for (const Case& c :
       {Case{"\x80", bad}, Case{"\xC0\x80", bad + bad}, Case{"\xC1\xBF", bad + bad},
        Case{"\xE0\x9F\xBF", bad + bad + bad}, Case{"\xED\xA0\x80", bad + bad + bad},
        Case{"\xF4\x90\x80\x80", bad + bad + bad + bad},
        Case{"\xF5"
             "a",
             bad + "a"},
        Case{"\xE1\x80", bad},
        Case{"\xE1\x80\xE2\xF0\x91\x92\xF1\xBF"
             "A",
             bad + bad + bad + bad + "A"},
        Case{"\xF0\x9F\x98", bad},
        Case{"a\xFF"
             "b",
             "a" + bad + "b"}}) {
    CHECK_FALSE(quire::is_utf8(c.bytes));
    CHECK(quire::replace_invalid_utf8(c.bytes) == c.replaced);
    for (std::size_t before = 1; before < 20; ++before) {  // ASCII is passed over 8 bytes at a time
      CHECK_FALSE(quire::is_utf8(std::string(before, 'x') + c.bytes));
    }
  }
  for (const std::string text :
       {"", "plain", "\xC2\x80 \xDF\xBF", "\xE0\xA0\x80\xED\x9F\xBF\xEE\x80\x80\xEF\xBF\xBF",
        "\xF0\x90\x80\x80\xF4\x8F\xBF\xBF"}) {
    CHECK(quire::is_utf8(text));
    CHECK(quire::replace_invalid_utf8(text) == text);
  }
  CHECK(quire::is_utf8(std::string_view("\0", 1)));
}

TEST_CASE("ASCII ends at the first byte that has its highest bit, wherever that is") {
  for (std::size_t size = 0; size < 20; ++size) {
    std::string text(size, '\x7F');
    CHECK(quire::is_ascii(text));
    CHECK(quire::is_utf8(text));
    for (std::size_t at = 0; at < size; ++at) {
      std::string other = text;
      other[at] = '\x80';
      CHECK_FALSE(quire::is_ascii(other));
      CHECK_FALSE(quire::is_utf8(other));
    }
  }
}

TEST_CASE("numbers get commas") {
  CHECK(quire::with_commas(0) == "0");
  CHECK(quire::with_commas(999) == "999");
  CHECK(quire::with_commas(4590) == "4,590");
  CHECK(quire::with_commas(1234567) == "1,234,567");
  CHECK(quire::with_commas(-1234567) == "-1,234,567");
  CHECK(quire::with_commas(-123) == "-123");
  CHECK(quire::with_commas(18446744073709551615u) == "18,446,744,073,709,551,615");
  CHECK(quire::counted(0, "record") == "0 records");
  CHECK(quire::counted(1, "record") == "1 record");
  CHECK(quire::counted(std::size_t{4590}, "record") == "4,590 records");
}

TEST_CASE("markup in text becomes text in markup") {
  CHECK(quire::escape_markup("a < b && \"c\" > 'd'") ==
        "a &lt; b &amp;&amp; &quot;c&quot; &gt; 'd'");
  CHECK(quire::escape_markup("").empty());
}

namespace {

/// What a shell makes of the words.
std::string from_shell(const std::string& words) {
  std::FILE* pipe = ::popen(("printf '%s|' " + words).c_str(), "r");
  REQUIRE(pipe != nullptr);
  std::string out;
  for (int c; (c = std::fgetc(pipe)) != EOF;) out += static_cast<char>(c);
  ::pclose(pipe);
  return out;
}

}  // namespace

TEST_CASE("what is quoted comes through a shell as it was") {
  for (const char* word : {"plain/path-1.txt", "my model", "it's", "a\"b", "$HOME", "`id`", "a\\b",
                           "{name} => {emoji}", "!x", "", "*", "~", "a;b", "ü"}) {
    INFO(word);
    CHECK(from_shell(quire::in_shell(word)) == std::string(word) + "|");
    CHECK(from_shell(quire::in_quotes(word)) == std::string(word) + "|");
    CHECK(from_shell(quire::in_quotes(word, '"')) == std::string(word) + "|");
  }
  CHECK(quire::in_shell("plain/path-1.txt") == "plain/path-1.txt");
  CHECK(quire::in_quotes("plain") == "'plain'");
  CHECK(quire::in_quotes("{a} => {b}", '"') == "\"{a} => {b}\"");
  CHECK(quire::in_python("it's a\\b") == "'it\\'s a\\\\b'");
}

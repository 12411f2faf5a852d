#include "corpus/json_text.h"

#include "tests/support/catch.h"

using quire::strict_json;
using quire::written_entries;
using quire::written_member;

TEST_CASE("what Python writes and JSON has not becomes null, outside of strings") {
  CHECK(strict_json(R"({"a":NaN,"b":[Infinity, -Infinity],"NaN":"NaN \" Infinity"})").text ==
        R"({"a":null,"b":[null, null],"NaN":"NaN \" Infinity"})");
  CHECK(strict_json("-Infinity").not_a_number);
  CHECK_FALSE(strict_json(R"({"a":"NaN"})").not_a_number);
  CHECK(strict_json(R"({"a": 1.50})").text.empty());
  CHECK(strict_json("").text.empty());
}

TEST_CASE("half a surrogate pair becomes U+FFFD, a whole one stays") {
  const auto changed = [](const char* text) {
    const quire::StrictJson strict = strict_json(text);
    return strict.lone_surrogate ? strict.text : "unchanged";
  };
  CHECK(changed(R"("a \ud83d")") == R"("a \ufffd")");
  CHECK(changed(R"("\uDE00 b")") == R"("\ufffd b")");
  CHECK(changed(R"("\ud83d\ud83d\ude00\ude00")") == R"("\ufffd\ud83d\ude00\ufffd")");
  CHECK(changed(R"("\ud83d\n\u0041")") == R"("\ufffd\n\u0041")");
  CHECK(changed(R"("\ud83d\ude00 \u00e9")") == "unchanged");
  CHECK(changed(R"("\\ud83d")") == "unchanged");  // a backslash, and four letters
  for (const char* broken : {R"("\ud8)", R"("\u)", R"("\)", R"("\ud83d\u)", R"("\uzzzz")"}) {
    CHECK_NOTHROW(strict_json(broken));
  }
}

TEST_CASE("values are found as they are written") {
  const char* text =
      R"( { "a" : 1.50 , "b":[1e3, [2.0,"],"],{"a":7} ,-0] ,"c\u0064":"x, }", "a":12345678901234567890123450 } )";
  CHECK(written_member(text, "a") == "12345678901234567890123450");  // the last
  CHECK(written_member(text, "b") == R"([1e3, [2.0,"],"],{"a":7} ,-0])");
  CHECK(written_member(text, "cd") == R"("x, }")");
  CHECK(written_member(text, "none").empty());
  CHECK(written_member("{}", "a").empty());
  std::size_t count = 7;
  for (const auto& [name, times] :
       {std::pair("a", 2u), std::pair("cd", 1u), std::pair("none", 0u)}) {
    written_member(text, name, &count);
    CHECK(count == times);
  }
  CHECK(written_entries(written_member(text, "b")) ==
        std::vector<std::string_view>{"1e3", R"([2.0,"],"])", R"({"a":7})", "-0"});
  CHECK(written_entries("[ ]").empty());
  CHECK(written_entries("[NaN]") == std::vector<std::string_view>{"NaN"});
}

#include "tokenizer/splitter.h"

#include <nlohmann/json.hpp>

#include "base/json.h"
#include "base/utf8.h"
#include "tests/tokenizer/helpers.h"
#include "tokenizer/unicode.h"

using namespace quire;
using namespace quire::test;
using unicode::CharClass;

namespace {

std::vector<std::string> split(std::string_view text) {
  std::vector<std::string> pieces;
  for_each_piece(text,
                 [&](const char* at, std::size_t length) { pieces.emplace_back(at, length); });
  return pieces;
}

std::vector<char32_t> code_points(std::string_view text) {
  std::vector<char32_t> codes;
  for (std::size_t i = 0; i < text.size();) {
    const utf8::Character character = utf8::character(text.data() + i);
    codes.push_back(character.code);
    i += character.length;
  }
  return codes;
}

/// The pattern's alternatives, tried in order as a regex engine does; the length in code points.
std::size_t match_pattern(const std::vector<char32_t>& text, std::size_t at) {
  for (const std::u32string_view word : {U"'s", U"'t", U"'re", U"'ve", U"'m", U"'ll", U"'d"}) {
    if (at + word.size() <= text.size() && std::equal(word.begin(), word.end(), &text[at])) {
      return word.size();
    }
  }
  const auto run = [&](std::size_t from, CharClass kind) {
    std::size_t length = 0;
    while (from + length < text.size() && unicode::class_of(text[from + length]) == kind) ++length;
    return length;
  };
  for (const CharClass kind : {CharClass::letter, CharClass::number, CharClass::other}) {
    if (text[at] == U' ' && run(at + 1, kind) > 0) return 1 + run(at + 1, kind);
    if (run(at, kind) > 0) return run(at, kind);
  }
  const std::size_t spaces = run(at, CharClass::space);
  for (std::size_t length = spaces; length > 0; --length) {
    const bool not_before_other =
        at + length == text.size() || unicode::class_of(text[at + length]) == CharClass::space;
    if (not_before_other) return length;
  }
  return spaces;
}

}  // namespace

TEST_CASE("code points have the classes of Unicode 16.0") {
  CHECK(unicode::class_of('a') == CharClass::letter);
  CHECK(unicode::class_of(0xAA) == CharClass::letter);     // feminine ordinal
  CHECK(unicode::class_of(0x0301) == CharClass::other);    // a combining mark
  CHECK(unicode::class_of(0xB2) == CharClass::number);     // superscript two
  CHECK(unicode::class_of(0x2167) == CharClass::number);   // Roman eight
  CHECK(unicode::class_of(0x85) == CharClass::space);      // next line
  CHECK(unicode::class_of(0x180E) == CharClass::other);    // once a space
  CHECK(unicode::class_of(0x200B) == CharClass::other);    // zero width "space"
  CHECK(unicode::class_of(0x323AF) == CharClass::letter);  // the last letter
  CHECK(unicode::class_of(0x323B0) == CharClass::other);
  CHECK(unicode::class_of(0x10FFFF) == CharClass::other);
  std::size_t counts[4] = {};
  for (char32_t code = 0; code < 0x110000; ++code)
    ++counts[static_cast<int>(unicode::class_of(code))];
  CHECK(counts[static_cast<int>(CharClass::letter)] == 141028);
  CHECK(counts[static_cast<int>(CharClass::number)] == 1911);
  CHECK(counts[static_cast<int>(CharClass::space)] == 25);
}

TEST_CASE("every code point has the class that the reference tokenizer gives it") {
  QUIRE_FIXTURE(path, "tokenizer/unicode_classes.json");
  const auto ranges = parse_json<nlohmann::json>(read_file(path));
  std::vector<CharClass> expected(0x110000, CharClass::other);
  const auto fill = [&](const char* name, CharClass kind) {
    for (const auto& range : ranges[name]) {
      std::fill(expected.begin() + range[0].get<int>(), expected.begin() + range[1].get<int>() + 1,
                kind);
    }
  };
  fill("letter", CharClass::letter);
  fill("number", CharClass::number);
  fill("space", CharClass::space);
  std::size_t wrong = 0;
  for (char32_t code = 0; code < 0x110000; ++code) {
    wrong += unicode::class_of(code) != expected[code];
  }
  CHECK(wrong == 0);
}

TEST_CASE("text splits as GPT-2's pattern says") {
  using Pieces = std::vector<std::string>;
  CHECK(split("").empty());
  CHECK(split("Hello world") == Pieces{"Hello", " world"});
  CHECK(split("we'll, they're") == Pieces{"we", "'ll", ",", " they", "'re"});
  CHECK(split("WE'LL") == Pieces{"WE", "'", "LL"});
  CHECK(split("'sx ''s 's") == Pieces{"'s", "x", " ''", "s", " '", "s"});
  CHECK(split("a1b2") == Pieces{"a", "1", "b", "2"});
  CHECK(split("a  b") == Pieces{"a", " ", " b"});
  CHECK(split("a \n b ") == Pieces{"a", " \n", " b", " "});
  CHECK(split("a\n\nb") == Pieces{"a", "\n", "\n", "b"});
  CHECK(split("x = [1.5]; // ok") == Pieces{"x", " =", " [", "1", ".", "5", "];", " //", " ok"});
}

TEST_CASE("the splitter agrees with the pattern's alternatives tried in order") {
  Random random(1);
  for (int round = 0; round < 4000; ++round) {
    const std::string text = awkward_text(random, 1 + below(random, 40));
    const std::vector<char32_t> codes = code_points(text);
    std::vector<std::size_t> expected;
    for (std::size_t at = 0; at < codes.size(); at += expected.back()) {
      expected.push_back(match_pattern(codes, at));
    }
    std::vector<std::size_t> found;
    for (const std::string& piece : split(text)) found.push_back(code_points(piece).size());
    INFO("text: " << text);
    REQUIRE(found == expected);
  }
}

// What GPT-2's pre-tokenizer asks of a code point: letter (\p{L}), number (\p{N}), space (\s) or
// none of them, by Unicode 16.0. A two-stage table: 128 code points share a row of 2-bit classes,
// and equal rows are stored once, 8 KB in all.
#pragma once

#include <algorithm>
#include <cstdint>
#include <iterator>

namespace quire::unicode {

enum class CharClass : std::uint8_t { other, letter, number, space };

extern const std::uint8_t row_of_block[1608];
extern const std::uint32_t class_rows[1664];
inline constexpr char32_t first_unlisted = 1608 * 128;  // from here on everything is `other`

struct CodeRange {
  char32_t first, last;
};
/// What is \w without being a letter: marks, decimal and letter-like numbers, connectors, joiners.
extern const CodeRange word_ranges[400];

inline CharClass class_of(char32_t code) {
  if (code >= first_unlisted) return CharClass::other;
  const std::uint32_t word = class_rows[row_of_block[code >> 7] * 8 + (code >> 4 & 7)];
  return static_cast<CharClass>(word >> (2 * (code & 15)) & 3);
}

/// \w as regular expressions have it: what single_word of an added token asks for.
inline bool is_word(char32_t code) {
  if (class_of(code) == CharClass::letter) return true;
  const auto* after = std::upper_bound(std::begin(word_ranges), std::end(word_ranges), code,
                                       [](char32_t c, const CodeRange& r) { return c < r.first; });
  return after != std::begin(word_ranges) && code <= std::prev(after)->last;
}

}  // namespace quire::unicode

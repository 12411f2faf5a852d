// What GPT-2's pre-tokenizer asks of a code point: letter (\p{L}), number (\p{N}), space (\s) or
// none of them, by Unicode 16.0. A two-stage table: 128 code points share a row of 2-bit classes,
// and equal rows are stored once, 8 KB in all.
#pragma once

#include <cstdint>

namespace quire::unicode {

enum class CharClass : std::uint8_t { other, letter, number, space };

extern const std::uint8_t row_of_block[1608];
extern const std::uint32_t class_rows[1664];
inline constexpr char32_t first_unlisted = 1608 * 128;  // from here on everything is `other`

inline CharClass class_of(char32_t code) {
  if (code >= first_unlisted) return CharClass::other;
  const std::uint32_t word = class_rows[row_of_block[code >> 7] * 8 + (code >> 4 & 7)];
  return static_cast<CharClass>(word >> (2 * (code & 15)) & 3);
}

}  // namespace quire::unicode

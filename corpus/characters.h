// What a character is, in the terms that YAKE's rules use: those of Python's strings and regular
// expressions. Unicode's data come from ICU; ASCII, most of any English text, from a table.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace quire::characters {

/// Bits of traits().
enum Trait : std::uint16_t {
  upper = 1 << 0,          ///< general category Lu
  title = 1 << 1,          ///< Lt
  lower = 1 << 2,          ///< Ll
  modifier = 1 << 3,       ///< Lm
  other_letter = 1 << 4,   ///< Lo, Chinese for example
  decimal = 1 << 5,        ///< Nd
  letter_number = 1 << 6,  ///< Nl
  in_word = 1 << 7,  ///< \w: alphabetic, marks, decimal digits, connecting punctuation, joiners
  space = 1 << 8,    ///< \s: the property White_Space
  capital = 1 << 9,  ///< str.isupper() of the one character
  small = 1 << 10,   ///< str.islower()
  digit = 1 << 11,   ///< str.isdigit(): decimal digits, superscripts and the like
};
inline constexpr std::uint16_t letter = upper | title | lower | modifier | other_letter;
inline constexpr std::uint16_t alnum = upper | title | lower | modifier | decimal | letter_number;

inline constexpr std::array<std::uint16_t, 128> ascii_traits = [] {
  std::array<std::uint16_t, 128> table{};
  for (std::size_t c = 0; c < table.size(); ++c) {
    if (c >= 'A' && c <= 'Z') table[c] = upper | capital | in_word;
    if (c >= 'a' && c <= 'z') table[c] = lower | small | in_word;
    if (c >= '0' && c <= '9') table[c] = decimal | digit | in_word;
    if (c == '_') table[c] = in_word;
    if (c == ' ' || (c >= '\t' && c <= '\r')) table[c] = space;
  }
  return table;
}();
std::uint16_t other_traits(char32_t code);
inline std::uint16_t traits(char32_t code) {
  return code < 128 ? ascii_traits[code] : other_traits(code);
}
inline bool is(char32_t code, std::uint16_t any_of) {
  return (traits(code) & any_of) != 0;
}

/// str.isspace(): White_Space and the four ASCII separators.
inline bool is_blank(char32_t code) {
  return is(code, space) || (code >= 0x1C && code <= 0x1F);
}
/// Whether a word begins or ends at this place: \b.
inline bool is_boundary(std::u32string_view text, std::size_t at) {
  const bool before = at > 0 && is(text[at - 1], in_word);
  const bool after = at < text.size() && is(text[at], in_word);
  return before != after;
}

/// str.lower(), without regard to a language.
std::u32string to_lower(std::u32string_view text);
/// The same into a string that is there.
void to_lower(std::u32string_view text, std::u32string& result);
/// str.strip().
std::u32string_view trimmed(std::u32string_view text);

/// Windows-1252's characters for the bytes 80 to 9F; five are not assigned, and there Latin-1's stand.
inline constexpr std::array<char16_t, 32> windows_1252 = {
    0x20AC, 0x81,   0x201A, 0x0192, 0x201E, 0x2026, 0x2020, 0x2021, 0x02C6, 0x2030, 0x0160,
    0x2039, 0x0152, 0x8D,   0x017D, 0x8F,   0x90,   0x2018, 0x2019, 0x201C, 0x201D, 0x2022,
    0x2013, 0x2014, 0x02DC, 0x2122, 0x0161, 0x203A, 0x0153, 0x9D,   0x017E, 0x0178};

/// Of containers that are asked for a text without a copy of it.
struct TextHash {
  using is_transparent = void;
  std::size_t operator()(std::u32string_view text) const {
    return std::hash<std::u32string_view>()(text);
  }
};

/// What is not UTF-8 becomes U+FFFD.
std::u32string from_utf8(std::string_view text);
/// `text` is Unicode scalar values.
std::string to_utf8(std::u32string_view text);

}  // namespace quire::characters

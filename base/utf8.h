// UTF-8 as Unicode's chapter 3.9 defines it: no overlong forms, no surrogates, nothing above
// U+10FFFF. What is not UTF-8 is replaced by U+FFFD, one for each maximal part that could have
// begun a character, as Python's errors="replace" does.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <string>
#include <string_view>

namespace quire::utf8 {

inline constexpr std::string_view replacement = "\xEF\xBF\xBD";  // U+FFFD

/// One step through bytes of any kind.
struct Step {
  std::size_t length;  ///< bytes of the character, or of the maximal invalid part
  bool valid;          ///< a whole character
  bool unfinished;     ///< not valid only because the input ends too early
};
Step step(const char* at, const char* end);

/// Whether a byte goes on with a character that another one begins: 10xxxxxx.
inline bool continues(char byte) {
  return (static_cast<unsigned char>(byte) & 0xC0) == 0x80;
}
/// The place of the first byte of the character that text[at] belongs to.
inline std::size_t begin_of_character(std::string_view text, std::size_t at) {
  while (at > 0 && continues(text[at])) --at;
  return at;
}
/// How many characters the text, which is UTF-8, has.
inline std::int64_t count_characters(std::string_view text) {
  return std::ssize(text) - std::count_if(text.begin(), text.end(), continues);
}

/// The character at `at`, which must be valid UTF-8.
struct Character {
  char32_t code;
  std::size_t length;
};
inline Character character(const char* at) {
  const auto byte = [at](int i) {
    return static_cast<char32_t>(static_cast<unsigned char>(at[i]));
  };
  if (byte(0) < 0x80) return {byte(0), 1};
  if (byte(0) < 0xE0) return {(byte(0) & 0x1F) << 6 | (byte(1) & 0x3F), 2};
  if (byte(0) < 0xF0) {
    return {(byte(0) & 0x0F) << 12 | (byte(1) & 0x3F) << 6 | (byte(2) & 0x3F), 3};
  }
  return {
      (byte(0) & 0x07) << 18 | (byte(1) & 0x3F) << 12 | (byte(2) & 0x3F) << 6 | (byte(3) & 0x3F),
      4};
}

/// Appends a Unicode scalar value.
void append(char32_t code, std::string& to);

/// The number of leading bytes below 0x80.
std::size_t ascii_prefix(std::string_view text);
/// The number of leading bytes that are valid UTF-8.
std::size_t valid_prefix(std::string_view text);
/// The number of bytes before a character that is unfinished at the end of the text (0 to 3 bytes
/// are left out); what comes before may be invalid.
std::size_t finished_prefix(std::string_view text);
/// Appends the text with its invalid parts replaced.
void append_replacing_invalid(std::string_view text, std::string& to);

}  // namespace quire::utf8

// UTF-8 as Unicode's chapter 3.9 defines it: no overlong forms, no surrogates, nothing above
// U+10FFFF. What is not UTF-8 is replaced by U+FFFD, one for each maximal part that could have
// begun a character, as Python's errors="replace" does.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace quire::utf8 {

inline constexpr std::string_view replacement = "\xEF\xBF\xBD";  // U+FFFD

/// One step through bytes of any kind.
struct Step {
  int length;       ///< bytes of the character, or of the maximal invalid part
  bool valid;       ///< a whole character
  bool unfinished;  ///< not valid only because the input ends too early
};
Step step(const char* at, const char* end);

/// The character at `at`, which must be valid UTF-8.
struct Character {
  char32_t code;
  int length;
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

/// The number of leading bytes that are valid UTF-8.
std::size_t valid_prefix(std::string_view text);
/// The number of bytes before a character that is unfinished at the end of the text (0 to 3 bytes
/// are left out); what comes before may be invalid.
std::size_t finished_prefix(std::string_view text);
/// Appends the text with its invalid parts replaced.
void append_replacing_invalid(std::string_view text, std::string& to);

}  // namespace quire::utf8

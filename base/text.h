// Small questions about text.
#pragma once

#include <concepts>
#include <cstddef>
#include <string>
#include <string_view>

namespace quire {

/// Whether all of it is well-formed UTF-8 (The Unicode Standard, table 3-7): no overlong forms, no
/// surrogates, nothing above U+10FFFF.
bool is_utf8(std::string_view text);

/// Whether all bytes are below 0x80.
bool is_ascii(std::string_view text);

/// The text with U+FFFD for each maximal part that is not UTF-8, as Python's
/// errors="replace" has it.
std::string replace_invalid_utf8(std::string_view text);

/// With a to z for A to Z.
std::string lower_ascii(std::string_view text);

/// Takes what comes before `end` off the front of the text, and `end` with it; all of a text without.
std::string_view take_until(char end, std::string_view& text);

/// With &, <, > and " as entities, fit for XML and HTML.
std::string escape_markup(std::string_view text);

/// A word as a shell reads it: as it is where nothing in it means something to one, else in quotes.
std::string in_shell(const std::string& word);
/// The same, in quotes whatever it is: 'a b'. The mark '"' is used where nothing in the word means
/// something within it.
std::string in_quotes(const std::string& word, char mark = '\'');
/// A text as Python's source has it: 'a b', 'it\'s'.
std::string in_python(const std::string& text);

/// A number's digits, "-4590", as "-4,590".
std::string group_digits(std::string digits);
/// 4590 as "4,590".
template <std::integral T>
std::string with_commas(T number) {
  return group_digits(std::to_string(number));
}
/// "1 record", "4,590 records".
template <std::integral T>
std::string counted(T number, std::string_view noun) {
  return with_commas(number) + " " + std::string(noun) + (number == 1 ? "" : "s");
}

}  // namespace quire

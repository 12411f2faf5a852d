#include "corpus/characters.h"

#include <unicode/locid.h>
#include <unicode/uchar.h>
#include <unicode/unistr.h>

#include <algorithm>

#include "base/utf8.h"

namespace quire::characters {
namespace {

constexpr std::uint16_t ascii_traits_of(int code) {
  if (code >= 'A' && code <= 'Z') return upper | capital | in_word;
  if (code >= 'a' && code <= 'z') return lower | small | in_word;
  if (code >= '0' && code <= '9') return decimal | digit | in_word;
  if (code == '_') return in_word;
  if (code == ' ' || (code >= '\t' && code <= '\r')) return space;
  return 0;
}

#define QUIRE_ASCII_4(n) \
  ascii_traits_of(n), ascii_traits_of(n + 1), ascii_traits_of(n + 2), ascii_traits_of(n + 3)
#define QUIRE_ASCII_16(n) \
  QUIRE_ASCII_4(n), QUIRE_ASCII_4(n + 4), QUIRE_ASCII_4(n + 8), QUIRE_ASCII_4(n + 12)

}  // namespace

const std::uint16_t ascii_traits[128] = {QUIRE_ASCII_16(0),  QUIRE_ASCII_16(16), QUIRE_ASCII_16(32),
                                         QUIRE_ASCII_16(48), QUIRE_ASCII_16(64), QUIRE_ASCII_16(80),
                                         QUIRE_ASCII_16(96), QUIRE_ASCII_16(112)};

std::uint16_t other_traits(char32_t code) {
  const auto c = static_cast<UChar32>(code);
  std::uint16_t bits = 0;
  switch (u_charType(c)) {
    case U_UPPERCASE_LETTER:
      bits = upper | in_word;
      break;
    case U_TITLECASE_LETTER:
      bits = title | in_word;
      break;
    case U_LOWERCASE_LETTER:
      bits = lower | in_word;
      break;
    case U_MODIFIER_LETTER:
      bits = modifier | in_word;
      break;
    case U_OTHER_LETTER:
      bits = other_letter | in_word;
      break;
    case U_DECIMAL_DIGIT_NUMBER:
      bits = decimal | digit | in_word;
      break;
    case U_LETTER_NUMBER:
      bits = letter_number | in_word;
      break;
    case U_NON_SPACING_MARK:
    case U_ENCLOSING_MARK:
    case U_COMBINING_SPACING_MARK:
    case U_CONNECTOR_PUNCTUATION:
      bits = in_word;
      break;
    default:
      if (u_isUAlphabetic(c) || u_hasBinaryProperty(c, UCHAR_JOIN_CONTROL)) bits = in_word;
  }
  if (u_isUWhiteSpace(c)) bits |= space;
  if (u_isUUppercase(c)) bits |= capital;
  if (u_isULowercase(c)) bits |= small;
  if (u_getIntPropertyValue(c, UCHAR_NUMERIC_TYPE) == U_NT_DIGIT) bits |= digit;
  return bits;
}

std::u32string to_lower(std::u32string_view text) {
  std::u32string result;
  to_lower(text, result);
  return result;
}

void to_lower(std::u32string_view text, std::u32string& result) {
  // Only these two have a lower case of two characters, or one that depends on their neighbours.
  constexpr std::u32string_view kSpecial = U"\u0130\u03A3";
  result = text;
  if (text.find_first_of(kSpecial) == std::u32string_view::npos) {
    for (char32_t& c : result) {
      if (c < 128) {
        if (c >= 'A' && c <= 'Z') c += 'a' - 'A';
      } else {
        c = static_cast<char32_t>(u_tolower(static_cast<UChar32>(c)));
      }
    }
    return;
  }
  icu::UnicodeString mixed = icu::UnicodeString::fromUTF32(
      reinterpret_cast<const UChar32*>(text.data()), static_cast<std::int32_t>(text.size()));
  mixed.toLower(icu::Locale::getRoot());
  result.resize(static_cast<std::size_t>(mixed.countChar32()));
  UErrorCode status = U_ZERO_ERROR;
  mixed.toUTF32(reinterpret_cast<UChar32*>(result.data()), static_cast<std::int32_t>(result.size()),
                status);
}

std::u32string_view trimmed(std::u32string_view text) {
  while (!text.empty() && is_blank(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_blank(text.back())) text.remove_suffix(1);
  return text;
}

std::u32string from_utf8(std::string_view text) {
  std::string valid;
  if (utf8::valid_prefix(text) < text.size()) {
    utf8::append_replacing_invalid(text, valid);
    text = valid;
  }
  std::u32string result;
  result.reserve(text.size());
  for (const char* at = text.data(); at != text.data() + text.size();) {
    const auto [code, length] = utf8::character(at);
    result += code;
    at += length;
  }
  return result;
}

std::string to_utf8(std::u32string_view text) {
  std::string result;
  for (const char32_t c : text) utf8::append(c, result);
  return result;
}

}  // namespace quire::characters

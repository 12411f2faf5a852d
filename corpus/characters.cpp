#include "corpus/characters.h"

#include <unicode/locid.h>
#include <unicode/uchar.h>
#include <unicode/unistr.h>

#include <algorithm>

#include "base/utf8.h"

namespace quire::characters {
namespace {

// General categories that are a trait by themselves.
struct Category {
  std::uint32_t mask;
  std::uint16_t bits;
};
constexpr Category kCategories[] = {{U_GC_LU_MASK, upper},        {U_GC_LT_MASK, title},
                                    {U_GC_LL_MASK, lower},        {U_GC_LM_MASK, modifier},
                                    {U_GC_LO_MASK, other_letter}, {U_GC_ND_MASK, decimal | digit},
                                    {U_GC_NL_MASK, letter_number}};
constexpr std::uint32_t kInWord =
    U_GC_L_MASK | U_GC_M_MASK | U_GC_ND_MASK | U_GC_NL_MASK | U_GC_PC_MASK;

}  // namespace

std::uint16_t other_traits(char32_t code) {
  const auto c = static_cast<UChar32>(code);
  const std::uint32_t category = U_GET_GC_MASK(c);
  std::uint16_t bits = 0;
  for (const Category& one : kCategories) {
    if ((category & one.mask) != 0) bits = one.bits;
  }
  if ((category & kInWord) != 0 || u_isUAlphabetic(c) ||
      u_hasBinaryProperty(c, UCHAR_JOIN_CONTROL)) {
    bits |= in_word;
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
  result.resize(mixed.countChar32());
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

#include "corpus/html_entities.h"

#include <algorithm>
#include <iterator>
#include <optional>

#include "corpus/characters.h"

namespace quire {
namespace {

using View = std::u32string_view;

std::optional<std::u32string> named(View name) {
  std::string wanted;
  for (const char32_t c : name) {
    if (c >= 128) return std::nullopt;
    wanted += static_cast<char>(c);
  }
  const auto found = std::lower_bound(
      std::begin(html_entities), std::end(html_entities), wanted,
      [](const HtmlEntity& entity, const std::string& text) { return entity.name < text; });
  if (found == std::end(html_entities) || found->name != wanted) return std::nullopt;
  return characters::from_utf8(found->text);
}

// What a number stands for; nothing for control characters and those that Unicode rules out.
std::u32string numbered(char32_t code) {
  if (code == 0 || (code >= 0xD800 && code <= 0xDFFF) || code > 0x10FFFF) return U"\uFFFD";
  // Pages mean Windows-1252 by these numbers.
  if (code >= 0x80 && code <= 0x9F) return {characters::windows_1252[code - 0x80]};
  const bool control =
      (code < 0x20 && code != '\t' && code != '\n' && code != '\f' && code != '\r') || code == 0x7F;
  const bool unused = (code >= 0xFDD0 && code <= 0xFDEF) || (code & 0xFFFE) == 0xFFFE;
  if (control || unused) return {};
  return {code};
}

// Reads what follows "&" from the front of `rest`; nullopt, with `rest` as it was, for no entity.
std::optional<std::u32string> read_number(View& rest) {
  const bool hex = rest.size() > 1 && (rest[1] == 'x' || rest[1] == 'X');
  std::size_t at = hex ? 2 : 1;
  const std::size_t first = at;
  char32_t code = 0;
  for (; at < rest.size(); ++at) {
    const char32_t c = rest[at];
    char32_t value = 0;
    if (c >= '0' && c <= '9') {
      value = c - '0';
    } else if (hex && ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')) {
      value = (c | 0x20) - 'a' + 10;
    } else {
      break;
    }
    code = std::min<char32_t>(code * (hex ? 16 : 10) + value, 0x110000);  // beyond all, for good
  }
  if (at == first) return std::nullopt;
  if (at < rest.size() && rest[at] == ';') ++at;
  rest.remove_prefix(at);
  return numbered(code);
}

std::optional<std::u32string> read_name(View& rest) {
  constexpr std::size_t kLongest = 32;
  std::size_t end = std::min(rest.find_first_of(U"\t\n\f <&#;"), rest.size());
  end = std::min(end, kLongest);
  if (end == 0) return std::nullopt;
  if (end < rest.size() && rest[end] == ';') ++end;
  for (std::size_t length = end; length > 1; --length) {  // the longest name that it begins with
    if (std::optional<std::u32string> text = named(rest.substr(0, length))) {
      rest.remove_prefix(length);
      return text;
    }
  }
  return std::nullopt;
}

}  // namespace

std::u32string unescape_html(View text) {
  std::u32string result;
  while (!text.empty()) {
    const std::size_t sign = std::min(text.find(U'&'), text.size());
    result += text.substr(0, sign);
    text.remove_prefix(sign);
    if (text.empty()) break;
    text.remove_prefix(1);
    std::optional<std::u32string> read;
    if (!text.empty()) read = text[0] == '#' ? read_number(text) : read_name(text);
    result += read.value_or(U"&");
  }
  return result;
}

}  // namespace quire

#include "corpus/json_text.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>
#include <nlohmann/json.hpp>

#include "base/json.h"

namespace quire {
namespace {

constexpr std::string_view kBlanks = " \t\r\n";

// Behind the closing quote of the string that opens at `at`; the end where none closes it.
std::size_t end_of_string(std::string_view text, std::size_t at) {
  for (++at; at < text.size(); ++at) {
    if (text[at] == '\\') {
      ++at;
    } else if (text[at] == '"') {
      return at + 1;
    }
  }
  return text.size();
}

// Behind the value that begins at `at`.
std::size_t end_of_value(std::string_view text, std::size_t at) {
  for (std::size_t depth = 0; at < text.size();) {
    const char c = text[at];
    if (c == '"') {
      at = end_of_string(text, at);
    } else if (depth == 0 &&
               (c == ',' || c == ']' || c == '}' || kBlanks.find(c) < kBlanks.size())) {
      return at;
    } else {
      depth += c == '[' || c == '{';
      depth -= c == ']' || c == '}';
      ++at;
    }
    const char last = text[at - 1];
    if (depth == 0 && (last == '"' || last == ']' || last == '}')) return at;
  }
  return text.size();
}

std::size_t skip(std::string_view text, std::size_t at, std::string_view what) {
  return std::min(text.find_first_not_of(what, at), text.size());
}

// The four hexadecimal digits behind "\\u" at `at`; -1 where it is none.
int code_unit(std::string_view text, std::size_t at) {
  if (text.size() < at + 6 || text[at] != '\\' || text[at + 1] != 'u') return -1;
  std::uint16_t unit = 0;
  const char* const digits = text.data() + at + 2;
  return std::from_chars(digits, digits + 4, unit, 16).ptr == digits + 4 ? unit : -1;
}

bool is_lead(int unit) {
  return unit >= 0xD800 && unit < 0xDC00;
}
bool is_trail(int unit) {
  return unit >= 0xDC00 && unit < 0xE000;
}

// Copies the string that opens at `at`, with its lone surrogates replaced. Returns its end.
std::size_t copy_string(std::string_view text, std::size_t at, StrictJson& strict) {
  const std::size_t end = end_of_string(text, at);
  while (at < end) {
    const std::size_t escape = std::min(text.find('\\', at), end);
    strict.text += text.substr(at, escape - at);
    at = escape;
    if (at == end) break;
    const int unit = code_unit(text, at), next = code_unit(text, at + 6);
    const bool pair = is_lead(unit) && is_trail(next);
    const std::size_t length = std::min<std::size_t>(pair ? 12 : unit >= 0 ? 6 : 2, end - at);
    const bool lone = !pair && (is_lead(unit) || is_trail(unit));
    strict.text += lone ? std::string_view("\\ufffd") : text.substr(at, length);
    strict.lone_surrogate |= lone;
    at += length;
  }
  return end;
}

}  // namespace

StrictJson strict_json(std::string_view text) {
  constexpr std::array<std::string_view, 3> kNotNumbers = {"NaN", "-Infinity", "Infinity"};
  StrictJson strict;
  const bool escapes = text.find("\\u") != std::string_view::npos;
  const bool words = std::any_of(kNotNumbers.begin(), kNotNumbers.end(), [&](auto word) {
    return text.find(word) != std::string_view::npos;
  });
  if (!escapes && !words) return strict;
  for (std::size_t at = 0; at < text.size();) {
    if (text[at] == '"') {
      at = copy_string(text, at, strict);
      continue;
    }
    const auto word = std::find_if(kNotNumbers.begin(), kNotNumbers.end(), [&](auto candidate) {
      return text.substr(at).starts_with(candidate);
    });
    if (word == kNotNumbers.end()) {
      strict.text += text[at++];
    } else {
      strict.text += "null";
      strict.not_a_number = true;
      at += word->size();
    }
  }
  return strict;
}

std::string_view written_member(std::string_view object, const std::string& name,
                                std::size_t* count) {
  std::string_view found;
  if (count != nullptr) *count = 0;
  std::size_t at = skip(object, 0, " \t\r\n{");
  while (at < object.size() && object[at] == '"') {
    const std::size_t key_end = end_of_string(object, at);
    const std::string_view written = object.substr(at, key_end - at);
    const StrictJson strict = strict_json(written);
    const auto key =
        parse_json_or_discard<nlohmann::json>(strict.text.empty() ? written : strict.text);
    at = skip(object, key_end, " \t\r\n:");
    const std::size_t end = end_of_value(object, at);
    if (key.is_string() && key.get_ref<const std::string&>() == name) {
      found = object.substr(at, end - at);
      if (count != nullptr) ++*count;
    }
    at = skip(object, end, " \t\r\n,");
  }
  return found;
}

std::vector<std::string_view> written_entries(std::string_view array) {
  std::vector<std::string_view> entries;
  std::size_t at = skip(array, skip(array, 0, kBlanks) + 1, kBlanks);
  while (at < array.size() && array[at] != ']') {
    const std::size_t end = end_of_value(array, at);
    entries.push_back(array.substr(at, end - at));
    at = skip(array, end, " \t\r\n,");
  }
  return entries;
}

}  // namespace quire

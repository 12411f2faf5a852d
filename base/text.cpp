#include "base/text.h"

#include <cstdint>
#include <cstring>

namespace quire {

namespace {

struct Sequence {
  int length;  // bytes
  bool valid;  // false: a maximal part that no valid sequence begins with
};

// The sequence at the start of text, which is not empty.
Sequence first_sequence(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned lead = byte(0);
  if (lead < 0x80) return {1, true};
  if (lead < 0xc2 || lead > 0xf4) return {1, false};
  const int length = lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
  // The second byte's range is narrower after four leads; all others are 80 to BF.
  unsigned low = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
  unsigned high = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
  for (int i = 1; i < length; ++i, low = 0x80, high = 0xbf) {
    const std::size_t at = static_cast<std::size_t>(i);
    if (at == text.size() || byte(at) < low || byte(at) > high) return {i, false};
  }
  return {length, true};
}

// How many bytes at the start are below 0x80: 8 at a time, since every text is looked through.
std::size_t ascii_bytes(std::string_view text) {
  std::size_t at = 0;
  for (; at + 8 <= text.size(); at += 8) {
    std::uint64_t eight;
    std::memcpy(&eight, text.data() + at, 8);
    if ((eight & 0x8080808080808080u) != 0) break;
  }
  while (at < text.size() && static_cast<unsigned char>(text[at]) < 0x80) ++at;
  return at;
}

}  // namespace

bool is_ascii(std::string_view text) {
  return ascii_bytes(text) == text.size();
}

std::size_t valid_sequence(std::string_view text) {
  const Sequence sequence = first_sequence(text);
  return sequence.valid ? static_cast<std::size_t>(sequence.length) : 0;
}

bool is_utf8(std::string_view text) {
  while (true) {
    text.remove_prefix(ascii_bytes(text));
    if (text.empty()) break;
    const Sequence sequence = first_sequence(text);
    if (!sequence.valid) return false;
    text.remove_prefix(static_cast<std::size_t>(sequence.length));
  }
  return true;
}

std::string replace_invalid_utf8(std::string_view text) {
  std::string replaced;
  while (!text.empty()) {
    const Sequence sequence = first_sequence(text);
    const std::size_t length = static_cast<std::size_t>(sequence.length);
    replaced += sequence.valid ? text.substr(0, length) : std::string_view("\xEF\xBF\xBD");
    text.remove_prefix(length);
  }
  return replaced;
}

std::string escape_markup(std::string_view text) {
  std::string escaped;
  for (const char c : text) {
    switch (c) {
      case '&':
        escaped += "&amp;";
        break;
      case '<':
        escaped += "&lt;";
        break;
      case '>':
        escaped += "&gt;";
        break;
      case '"':
        escaped += "&quot;";
        break;
      default:
        escaped += c;
    }
  }
  return escaped;
}

std::string in_shell(const std::string& word) {
  constexpr std::string_view kPlain =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./=:,+@%";
  return word.empty() || word.find_first_not_of(kPlain) != std::string::npos ? in_quotes(word)
                                                                             : word;
}

std::string in_quotes(const std::string& word, char mark) {
  if (mark == '"' && word.find_first_of("\"$`\\!") == std::string::npos) return '"' + word + '"';
  std::string quoted = "'";
  for (const char c : word) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return quoted + "'";
}

std::string in_python(const std::string& text) {
  std::string quoted = "'";
  for (const char c : text) quoted += (c == '\'' || c == '\\' ? "\\" : "") + std::string(1, c);
  return quoted + "'";
}

std::string group_digits(std::string digits) {
  const std::ptrdiff_t first = digits.front() == '-' ? 1 : 0;
  for (auto at = static_cast<std::ptrdiff_t>(digits.size()) - 3; at > first; at -= 3) {
    digits.insert(static_cast<std::size_t>(at), 1, ',');
  }
  return digits;
}

}  // namespace quire

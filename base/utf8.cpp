#include "base/utf8.h"

#include <cstdint>
#include <cstring>

namespace quire::utf8 {
namespace {

unsigned char byte_at(const char* at) {
  return static_cast<unsigned char>(*at);
}

const char* skip_ascii(const char* at, const char* end) {
  while (end - at >= 16) {
    std::uint64_t words[2];
    std::memcpy(words, at, 16);
    if (((words[0] | words[1]) & 0x8080808080808080u) != 0) break;
    at += 16;
  }
  while (at != end && byte_at(at) < 0x80) ++at;
  return at;
}

}  // namespace

Step step(const char* at, const char* end) {
  const unsigned char first = byte_at(at);
  if (first < 0x80) return {1, true, false};
  // The second byte's range is narrower after E0 and F0 (overlong),
  // ED (surrogates), F4 (too large).
  std::size_t length = 0;
  unsigned char low = 0x80;
  unsigned char high = 0xBF;
  if (first >= 0xC2 && first <= 0xDF) {
    length = 2;
  } else if (first >= 0xE0 && first <= 0xEF) {
    length = 3;
    if (first == 0xE0) low = 0xA0;
    if (first == 0xED) high = 0x9F;
  } else if (first >= 0xF0 && first <= 0xF4) {
    length = 4;
    if (first == 0xF0) low = 0x90;
    if (first == 0xF4) high = 0x8F;
  } else {
    return {1, false, false};
  }
  for (std::size_t i = 1; i < length; ++i) {
    if (at + i == end) return {i, false, true};
    if (byte_at(at + i) < low || byte_at(at + i) > high) return {i, false, false};
    low = 0x80;
    high = 0xBF;
  }
  return {length, true, false};
}

void append(char32_t code, std::string& to) {
  const auto add = [&](char32_t byte) { to += static_cast<char>(byte); };
  const int more = code < 0x80 ? 0 : code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
  // 0xxxxxxx, 110xxxxx, 1110xxxx or 11110xxx, then 10xxxxxx: six bits each
  constexpr char32_t kLead[] = {0, 0xC0, 0xE0, 0xF0};
  add(kLead[more] | code >> 6 * more);
  for (int i = more - 1; i >= 0; --i) add(0x80 | (code >> 6 * i & 0x3F));
}

std::size_t ascii_prefix(std::string_view text) {
  return skip_ascii(text.data(), text.data() + text.size()) - text.data();
}

std::size_t valid_prefix(std::string_view text) {
  const char* at = text.data();
  const char* end = at + text.size();
  while ((at = skip_ascii(at, end)) != end) {
    while (at != end && byte_at(at) >= 0x80) {
      const Step next = step(at, end);
      if (!next.valid) return at - text.data();
      at += next.length;
    }
  }
  return text.size();
}

std::size_t finished_prefix(std::string_view text) {
  // An unfinished character begins with the last byte that is not a continuation (10xxxxxx).
  for (std::size_t back = 1; back <= 3 && back <= text.size(); ++back) {
    const char* at = text.data() + text.size() - back;
    if (continues(*at)) continue;
    const Step last = step(at, text.data() + text.size());
    return last.unfinished && last.length == back ? text.size() - back : text.size();
  }
  return text.size();
}

void append_replacing_invalid(std::string_view text, std::string& to) {
  while (true) {
    const std::size_t valid = valid_prefix(text);
    to.append(text.substr(0, valid));
    text.remove_prefix(valid);
    if (text.empty()) return;
    to.append(replacement);
    text.remove_prefix(step(text.data(), text.data() + text.size()).length);
  }
}

}  // namespace quire::utf8

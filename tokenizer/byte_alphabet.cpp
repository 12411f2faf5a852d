#include "tokenizer/byte_alphabet.h"

#include "base/utf8.h"

namespace quire {
namespace {

constexpr bool stands_for_itself(int byte) {
  return (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

constexpr int first_free = 0x100;
constexpr int code_points = first_free + 68;

struct Alphabet {
  std::array<std::uint16_t, 256> character{};          // byte -> code point
  std::array<std::int16_t, code_points> byte_value{};  // code point -> byte, -1 where there is none

  constexpr Alphabet() {
    for (auto& value : byte_value) value = -1;
    int next = first_free;
    for (int byte = 0; byte < 256; ++byte) {
      const int code = stands_for_itself(byte) ? byte : next++;
      character[byte] = static_cast<std::uint16_t>(code);
      byte_value[code] = static_cast<std::int16_t>(byte);
    }
  }
};

constexpr Alphabet alphabet;

}  // namespace

std::array<std::uint8_t, 256> bytes_in_alphabet_order() {
  std::array<std::uint8_t, 256> bytes{};
  std::size_t count = 0;
  for (const std::int16_t byte : alphabet.byte_value) {
    if (byte >= 0) bytes[count++] = static_cast<std::uint8_t>(byte);
  }
  return bytes;
}

std::string printable(std::string_view bytes) {
  std::string text;
  for (const char byte : bytes) {
    utf8::append(alphabet.character[static_cast<unsigned char>(byte)], text);
  }
  return text;
}

bool append_bytes_of_printable(std::string_view text, std::string& to) {
  const std::size_t before = to.size();
  to.resize(before + text.size());
  char* out = to.data() + before;
  for (std::size_t i = 0; i < text.size(); ++i) {
    unsigned code = static_cast<unsigned char>(text[i]);
    if (code >= 0x80) {
      // The alphabet ends at U+0143, so its characters have at most two bytes: 110xxxxx 10xxxxxx.
      const unsigned second = i + 1 < text.size() ? static_cast<unsigned char>(text[i + 1]) : 0;
      const bool pair = (code & 0xE0) == 0xC0 && (second & 0xC0) == 0x80;
      code = pair ? (code & 0x1F) << 6 | (second & 0x3F) : code_points;
      ++i;
    }
    const int byte = code < code_points ? alphabet.byte_value[code] : -1;
    if (byte < 0) {
      to.resize(before);
      return false;
    }
    *out++ = static_cast<char>(byte);
  }
  to.resize(out - to.data());
  return true;
}

}  // namespace quire

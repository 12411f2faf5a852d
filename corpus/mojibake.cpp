#include "corpus/mojibake.h"

#include <algorithm>

#include "base/text.h"
#include "base/utf8.h"
#include "corpus/characters.h"

namespace quire {
namespace {

// The character at `at`, which moves behind it; 0 for ASCII,
// for what is not UTF-8, and beyond U+FFFF.
char32_t next_character(std::string_view text, std::size_t& at) {
  if (at >= text.size()) return 0;
  const utf8::Step step = utf8::step(text.data() + at, text.data() + text.size());
  if (!step.valid || step.length == 1 || step.length == 4) return 0;
  const char32_t code = utf8::character(text.data() + at).code;
  at += step.length;
  return code;
}

// The byte that a character is in Windows-1252 or Latin-1, from 80 on; 0 for others.
unsigned byte_of(char32_t character) {
  if (character >= 0x80 && character <= 0xFF) return static_cast<unsigned>(character);
  const auto& table = characters::windows_1252;
  const auto found = std::find(table.begin(), table.end(), character);
  return found == table.end() ? 0 : static_cast<unsigned>(0x80 + (found - table.begin()));
}

// One character that was read byte by byte: its bytes, and where it ends in the text.
struct Meant {
  std::string bytes;
  std::size_t end = 0;
};

std::optional<Meant> read_once_more(std::string_view text, std::size_t at) {
  Meant meant;
  const unsigned lead = byte_of(next_character(text, at));
  const std::size_t length = lead >= 0xC2 && lead <= 0xDF   ? 2
                             : lead >= 0xE0 && lead <= 0xEF ? 3
                             : lead >= 0xF0 && lead <= 0xF4 ? 4
                                                            : 0;
  if (length == 0) return std::nullopt;
  meant.bytes += static_cast<char>(lead);
  while (meant.bytes.size() < length) {
    const unsigned byte = byte_of(next_character(text, at));
    if (byte < 0x80 || byte > 0xBF) return std::nullopt;
    meant.bytes += static_cast<char>(byte);
  }
  if (!is_utf8(meant.bytes)) return std::nullopt;
  meant.end = at;
  return meant;
}

// Whether one such character is enough to suspect it.
bool counts_alone(const Meant& meant, std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(meant.bytes[i]); };
  switch (byte(0)) {
    case 0xC2:
    case 0xC3: {
      constexpr std::string_view kEndsWords = "\x85\x92\x94\x96\x97\x9B\xBB";
      if (kEndsWords.find(meant.bytes[1]) == std::string_view::npos) return true;
      return meant.end < text.size() && text[meant.end] >= 'a' && text[meant.end] <= 'z';
    }
    case 0xE2:
      return byte(1) <= 0x9F;
    case 0xEF:
      return byte(1) == 0xBB && byte(2) == 0xBF;
    case 0xF0:
      return byte(1) == 0x9F;
    default:
      return false;
  }
}

}  // namespace

std::optional<Mojibake> find_mojibake(std::string_view text, std::size_t from) {
  // The characters for C2 to F4 all begin with the byte C3.
  for (std::size_t at = text.find('\xC3', from); at != std::string_view::npos;
       at = text.find('\xC3', at + 1)) {
    std::optional<Meant> meant = read_once_more(text, at);
    if (!meant) continue;
    Mojibake run{.begin = at, .end = meant->end, .meant = meant->bytes};
    bool counts = counts_alone(*meant, text);
    while ((meant = read_once_more(text, run.end))) {
      counts = true;
      run.meant += meant->bytes;
      run.end = meant->end;
    }
    if (counts) return run;
  }
  return std::nullopt;
}

std::string repair_mojibake(std::string text) {
  // Every repair makes the text shorter, so this ends.
  for (std::optional<Mojibake> run = find_mojibake(text); run; run = find_mojibake(text)) {
    std::string repaired;
    std::size_t at = 0;
    for (; run; run = find_mojibake(text, at)) {
      repaired.append(text, at, run->begin - at);
      repaired += run->meant;
      at = run->end;
    }
    repaired.append(text, at);
    text = std::move(repaired);
  }
  return text;
}

}  // namespace quire

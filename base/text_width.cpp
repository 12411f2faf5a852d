#include "base/text_width.h"

#include <algorithm>
#include <iterator>

#include "base/utf8.h"

namespace quire {
namespace {

// The bytes of a code like "\x1b[1m" at `at`; 0: none is there.
std::size_t style_code(std::string_view text, std::size_t at) {
  if (!text.substr(at).starts_with("\x1b[")) return 0;
  const std::size_t end = text.find_first_not_of("0123456789;", at + 2);
  return end == std::string_view::npos ? text.size() - at : end + 1 - at;
}

// Reads one character of UTF-8 at `at` and moves past it; a stray byte counts as one character.
char32_t next_character(std::string_view text, std::size_t& at) {
  const char* const first = text.data() + at;
  if (!utf8::step(first, text.data() + text.size()).valid) {
    return static_cast<unsigned char>(text[at++]);
  }
  const auto [code, length] = utf8::character(first);
  at += length;
  return code;
}

// Unicode's East Asian Width W and F and the common combining marks, by block: the progress line
// shows numbers and an occasional word of generated text, and block limits serve it well.
int character_width(char32_t c) {
  struct Block {
    char32_t first, last;
  };
  static constexpr Block kZero[] = {{0x0300, 0x036F}, {0x200B, 0x200F}, {0xFE00, 0xFE0F}};
  static constexpr Block kWide[] = {{0x1100, 0x115F},   {0x2E80, 0x303E},   {0x3041, 0xA4CF},
                                    {0xAC00, 0xD7A3},   {0xF900, 0xFAFF},   {0xFE30, 0xFE6F},
                                    {0xFF00, 0xFF60},   {0xFFE0, 0xFFE6},   {0x1F300, 0x1F64F},
                                    {0x1F680, 0x1F6FF}, {0x1F900, 0x1F9FF}, {0x20000, 0x3FFFD}};
  const auto holds = [c](const Block& block) { return c >= block.first && c <= block.last; };
  if (std::any_of(std::begin(kZero), std::end(kZero), holds)) return 0;
  if (std::any_of(std::begin(kWide), std::end(kWide), holds)) return 2;
  return 1;
}

}  // namespace

int display_width(std::string_view utf8) {
  int width = 0;
  for (std::size_t at = 0; at < utf8.size();) {
    if (const std::size_t code = style_code(utf8, at); code > 0) {
      at += code;
    } else {
      width += character_width(next_character(utf8, at));
    }
  }
  return width;
}

std::string cut_to_width(std::string_view utf8, int columns) {
  if (display_width(utf8) <= columns) return std::string(utf8);
  int width = 0;
  std::size_t at = 0;
  while (at < utf8.size()) {
    std::size_t after = at;
    width += character_width(next_character(utf8, after));
    if (width > columns - 1) break;
    at = after;
  }
  return std::string(utf8.substr(0, at)) + "…";
}

std::string format_table(const std::vector<std::vector<std::string>>& rows, int columns) {
  std::vector<int> widths;
  std::vector<bool> numeric;
  for (std::size_t r = 0; r < rows.size(); ++r) {
    widths.resize(std::max(widths.size(), rows[r].size()), 0);
    numeric.resize(widths.size(), true);
    for (std::size_t c = 0; c < rows[r].size(); ++c) {
      const std::string& cell = rows[r][c];
      widths[c] = std::max(widths[c], display_width(cell));
      const bool number = cell.empty() || cell == "-" || cell.find_first_of("0123456789") == 0;
      if (r > 0 && !number) numeric[c] = false;
    }
  }
  std::string text;
  std::size_t begin = 1;
  do {
    // The first column, and as many more as there is room for: one at least.
    int taken = widths.empty() ? 0 : 2 + widths[0];
    std::size_t end = begin;
    for (; end < widths.size(); ++end) {
      taken += 2 + widths[end];
      if (end > begin && taken > columns) break;
    }
    if (begin > 1) text += "\n";
    for (const std::vector<std::string>& row : rows) {
      std::string line = " ";
      for (std::size_t c = 0; c < std::min(row.size(), end); c = c == 0 ? begin : c + 1) {
        const std::string padding(widths[c] - display_width(row[c]), ' ');
        line += " " + (numeric[c] ? padding + row[c] : row[c] + padding) + " ";
      }
      line.erase(line.find_last_not_of(' ') + 1);
      text += line + "\n";
    }
    begin = end;
  } while (begin < widths.size());
  return text;
}

std::string flow(std::string_view text, int columns, std::string_view indent) {
  constexpr std::string_view kSpace = " \n\r\t";
  std::string out, line(indent);
  bool empty = true;
  while (true) {
    text.remove_prefix(std::min(text.find_first_not_of(kSpace), text.size()));
    if (text.empty()) return out + line;
    const std::string_view word = text.substr(0, text.find_first_of(kSpace));
    text.remove_prefix(word.size());
    if (!empty && display_width(line) + 1 + display_width(word) > columns) {
      out += line + "\n";
      line = indent;
      empty = true;
    }
    if (!empty) line += ' ';
    line += word;
    empty = false;
  }
}

}  // namespace quire

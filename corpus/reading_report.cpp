#include "corpus/reading_report.h"

#include "base/text.h"
#include "base/utf8.h"

namespace quire {

void LineCount::add(const std::filesystem::path& path, std::size_t number) {
  if (lines++ > 0) return;
  file = path;
  line = number;
}

void EncodingGuess::add(std::string_view line) {
  for (std::size_t at = 0; at < line.size();) {
    const auto byte = static_cast<unsigned char>(line[at]);
    const utf8::Step step = utf8::step(line.data() + at, line.data() + line.size());
    zeros_ += byte == 0;
    letters_ += (byte | 0x20) >= 'a' && (byte | 0x20) <= 'z';
    bytes_[byte] += !step.valid;
    at += step.valid ? step.length : 1;
  }
}

std::string EncodingGuess::likely() const {
  if (zeros_ > 0) return "utf-16";
  std::int64_t high = 0, control = 0, unassigned = 0;
  for (std::size_t byte = 0x80; byte < bytes_.size(); ++byte) {
    high += bytes_[byte];
    control += byte < 0xA0 ? bytes_[byte] : 0;
  }
  for (const std::size_t byte : {0x81u, 0x8Du, 0x8Fu, 0x90u, 0x9Du}) unassigned += bytes_[byte];
  // In Western Europe's languages most letters are ASCII's; elsewhere few are.
  if (high > letters_ || unassigned > 0) return "";
  return control > 0 ? "cp1252" : "latin-1";
}

void ReadingReport::look(const std::filesystem::path& file, std::size_t first,
                         std::string_view text) {
  if (is_ascii(text)) return;
  if (is_utf8(text)) {
    utf8_too = true;
    return;
  }
  for (std::size_t number = first;; ++number) {
    const std::string_view line = text.substr(0, text.find('\n'));
    if (!is_utf8(line)) {
      not_utf8.add(file, number);
      guess.add(line);
    } else {
      utf8_too |= !is_ascii(line);
    }
    if (line.size() == text.size()) return;
    text.remove_prefix(line.size() + 1);
  }
}

}  // namespace quire

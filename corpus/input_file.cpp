#include "corpus/input_file.h"

#include <algorithm>

#include "corpus/encoding.h"
#include "corpus/file_kind.h"

namespace quire {

std::string with_newlines(std::string_view text) {
  std::string result;
  result.reserve(text.size());
  while (true) {
    const std::size_t end = std::min(text.find('\r'), text.size());
    result += text.substr(0, end);
    if (end == text.size()) return result;
    result += '\n';
    const bool pair = end + 1 < text.size() && text[end + 1] == '\n';
    text.remove_prefix(end + (pair ? 2 : 1));
  }
}

InputFile::InputFile(const std::filesystem::path& path, const TextFormat& format)
    : file_(path), in_memory_(compression_of(path) != Compression::none) {
  if (in_memory_) memory_ = decompress(file_.text(), compression_of(path), path.string());
  if (names_utf8(format.encoding) || text().starts_with("\xEF\xBB\xBF")) return;
  memory_ = to_utf8(text(), format.encoding, path);
  in_memory_ = true;
}

void InputFile::let_go(std::string_view part) const {
  if (in_memory_ || part.empty()) return;
  const auto first = static_cast<std::size_t>(part.data() - file_.text().data());
  file_.let_go(first, first + part.size());
}

bool TextBlocks::next() {
  constexpr std::size_t kBlock = 1 << 22;
  file_.let_go(raw_);
  std::size_t end = rest_.size();
  if (end > kBlock) end = std::min(rest_.find_first_of("\r\n", kBlock), end);
  if (end < rest_.size()) end += rest_.substr(end).starts_with("\r\n") ? 2 : 1;
  raw_ = rest_.substr(0, end);
  rest_.remove_prefix(end);
  block_ = raw_;
  if (raw_.find('\r') != std::string_view::npos) block_ = converted_ = with_newlines(raw_);
  return !raw_.empty();
}

}  // namespace quire

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

}  // namespace quire

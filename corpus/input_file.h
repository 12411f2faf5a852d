// A file of text as it is read: mapped. Where its name ends with .gz or .zst, or it is in another
// encoding than UTF-8, that is done first, piece by piece, into memory or, beyond 4 MiB, a file
// without a name (byte_spill.h): readers go back and forth in a text that memory need not hold. One
// that begins with UTF-8's byte-order mark is in UTF-8.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "base/byte_spill.h"
#include "base/file.h"
#include "corpus/text_format.h"

namespace quire {

/// "\r\n", and "\r" alone, as "\n".
std::string with_newlines(std::string_view text);

/// Throws Error(bad_data) naming the file when it cannot be opened or unpacked,
/// or is not in the encoding.
class InputFile {
 public:
  explicit InputFile(const std::filesystem::path& path, const TextFormat& format = {});
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;

  std::string_view text() const { return text_; }
  /// A part of text() needs no memory for now, where it is mapped: it was gone through.
  void let_go(std::string_view part) const;

 private:
  MappedFile file_;
  std::optional<ByteSpill> made_;  // of the file, where it is packed or in another encoding
  std::string_view text_;          // of either
};

/// A text in blocks of whole lines, some 4 MiB each, with "\n" at the end of every line. What was
/// gone through is let go.
class TextBlocks {
 public:
  /// `text`: of the file, or a part of it. Both must outlive the blocks.
  TextBlocks(const InputFile& file, std::string_view text) : file_(file), rest_(text) {}
  /// False at the end.
  bool next();
  std::string_view block() const { return block_; }  ///< until the next one

 private:
  const InputFile& file_;
  std::string_view raw_, rest_, block_;
  std::string converted_;
};

}  // namespace quire

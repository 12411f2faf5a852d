// A file of text as it is read: mapped, or in memory where its name ends with .gz or .zst, or where
// it is in another encoding than UTF-8. One that begins with UTF-8's byte-order mark is in UTF-8.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "base/file.h"
#include "corpus/text_format.h"

namespace quire {

/// "\r\n", and "\r" alone, as "\n".
std::string with_newlines(std::string_view text);

/// Throws Error(bad_data) naming the file when it cannot be opened or unpacked, or is not in the
/// encoding.
class InputFile {
 public:
  explicit InputFile(const std::filesystem::path& path, const TextFormat& format = {});
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;

  std::string_view text() const { return in_memory_ ? std::string_view(memory_) : file_.text(); }

 private:
  MappedFile file_;
  bool in_memory_;
  std::string memory_;
};

}  // namespace quire

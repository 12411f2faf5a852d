// A file of text as it is read: mapped, or unpacked into memory where its name ends with .gz or
// .zst.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "base/file.h"

namespace quire {

/// Throws Error(bad_data) naming the file when it cannot be opened or unpacked.
class InputFile {
 public:
  explicit InputFile(const std::filesystem::path& path);
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;

  std::string_view text() const { return packed_ ? std::string_view(unpacked_) : file_.text(); }

 private:
  MappedFile file_;
  bool packed_;
  std::string unpacked_;
};

}  // namespace quire

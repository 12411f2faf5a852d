// A text file that grows by whole lines.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <string_view>

#include "base/file.h"

namespace quire {

class LineFile {
 public:
  /// Opens a file, or makes it. Of the lines it has those stay that `keep` accepts; one without its
  /// end, cut short by a crash, goes. Throws Error(no_space) or Error(bad_data).
  LineFile(const std::filesystem::path& path, const std::function<bool(std::string_view)>& keep);

  const std::filesystem::path& path() const { return file_.path(); }
  /// `line` without its end.
  void write(const std::string& line) { file_.write(line + "\n"); }

 private:
  AppendFile file_;
};

}  // namespace quire

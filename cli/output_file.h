// A result that goes to standard output, or with --output FILE into a file that takes
// its name when it is whole.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "base/file.h"
#include "cli/flags.h"

namespace quire {

/// Throws Error(usage) for a file that is there already and is not to be replaced, and for a folder;
/// bad_data as check_writable() does.
void check_output_file(const std::filesystem::path& path, bool overwrite);

class OutputFile {
 public:
  /// --output and --overwrite; `value` stands for the file in the help.
  void add_to(Flags& flags, const std::string& value);

  bool is_stdout() const { return path_ == "-"; }
  const std::filesystem::path& path() const { return path_; }

  /// Before anything costly is done. Throws Error(usage) for a file that is there already.
  void open();
  void write(std::string_view text);
  /// The file takes its name, also where nothing was written.
  void commit();

 private:
  std::filesystem::path path_ = "-";
  bool overwrite_ = false;
  std::optional<AtomicFile> file_;
};

}  // namespace quire

#include "cli/output_file.h"

#include "base/error.h"
#include "base/file.h"
#include "base/text.h"
#include "cli/option_names.h"
#include "cli/terminal.h"

namespace quire {

void check_output_file(const std::filesystem::path& path, bool overwrite) {
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored)) {
    throw Error(Fault::usage, path.string() + " is a folder, not a file to write", {},
                "--output " + in_shell((path / "FILE").string()));
  }
  if (!overwrite && std::filesystem::exists(path, ignored)) {
    throw Error(Fault::usage, path.string() + " is there already", {},
                "another --output, or --overwrite");
  }
  try {
    check_writable(path.has_parent_path() ? path.parent_path() : ".");
  } catch (Error& error) {
    if (!error.next().empty()) error.set_next("another --output");
    throw;
  }
}

void OutputFile::add_to(Flags& flags, const std::string& value) {
  flags.add(kOutputFileNames, path_, value, "- is standard output");
  flags.add(kOverwriteFileNames, overwrite_, "replace " + value + " if it is there");
}

void OutputFile::open() {
  if (is_stdout()) return;
  check_output_file(path_, overwrite_);
  file_.emplace(path_);
}

void OutputFile::write(std::string_view text) {
  if (file_) {
    file_->write(text);
  } else {
    print(text);
  }
}

void OutputFile::commit() {
  if (file_) file_->commit();
}

}  // namespace quire

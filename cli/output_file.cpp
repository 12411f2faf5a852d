#include "cli/output_file.h"

#include "base/error.h"
#include "cli/option_names.h"
#include "cli/terminal.h"

namespace quire {

void OutputFile::add_to(Flags& flags, const std::string& value) {
  flags.add(kOutputFileNames, path_, value, "- is standard output");
  flags.add(kOverwriteFileNames, overwrite_, "replace " + value + " if it is there");
}

void OutputFile::open() {
  if (is_stdout()) return;
  std::error_code ignored;
  if (!overwrite_ && std::filesystem::exists(path_, ignored)) {
    throw Error(Fault::usage, path_.string() + " is there already", {},
                "another --output, or --overwrite");
  }
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

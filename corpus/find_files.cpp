#include <glob.h>

#include <algorithm>
#include <map>

#include "base/error.h"
#include "base/nearest.h"
#include "corpus/file_kind.h"
#include "corpus/records.h"

namespace quire {
namespace {

namespace fs = std::filesystem;

bool hidden(const fs::path& path) {
  return path.filename().string().starts_with(".");
}

// All .txt below a folder.
std::vector<fs::path> files_below(const fs::path& folder) {
  std::vector<fs::path> files;
  std::map<std::string, int> others;  // extension -> files
  std::error_code failed;
  fs::recursive_directory_iterator entry(folder, failed);
  for (const fs::recursive_directory_iterator end; !failed && entry != end;
       entry.increment(failed)) {
    if (hidden(entry->path())) {
      entry.disable_recursion_pending();
    } else if (entry->is_regular_file(failed)) {
      if (lower_extension(entry->path()) == ".txt") {
        files.push_back(entry->path());
      } else {
        ++others[lower_extension(entry->path())];
      }
    }
  }
  if (failed) {
    throw Error(Fault::bad_data, "cannot read the folder " + folder.string(), {failed.message()});
  }
  if (files.empty()) {
    std::string found;
    for (const auto& [extension, count] : others) {
      found += (found.empty() ? "it holds " : ", ") + std::to_string(count) + " × " +
               (extension.empty() ? "no extension" : extension);
    }
    const bool tables =
        others.contains(".csv") || others.contains(".jsonl") || others.contains(".tsv");
    throw Error(Fault::bad_data, "the folder " + folder.string() + " holds no .txt",
                {found.empty() ? "it is empty" : found},
                tables ? "name the files themselves, or a pattern: '" +
                             (folder / (others.contains(".csv")     ? "*.csv"
                                        : others.contains(".jsonl") ? "*.jsonl"
                                                                    : "*.tsv"))
                                 .string() +
                             "'"
                       : "");
  }
  std::sort(files.begin(), files.end());
  return files;
}

std::vector<std::string> matches_of(const std::string& pattern) {
  glob_t found{};
  const int result = ::glob(pattern.c_str(), 0, nullptr, &found);
  std::vector<std::string> matches(found.gl_pathv, found.gl_pathv + found.gl_pathc);
  ::globfree(&found);
  if (result != 0 || matches.empty()) {
    throw Error(Fault::bad_data, "no file matches '" + pattern + "'");
  }
  std::sort(matches.begin(), matches.end());
  return matches;
}

[[noreturn]] void throw_not_there(const fs::path& path) {
  std::vector<std::string> names;
  std::error_code failed;
  const fs::path folder = path.has_parent_path() ? path.parent_path() : ".";
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, failed)) {
    names.push_back(entry.path().filename().string());
  }
  std::sort(names.begin(), names.end());
  const std::string close = nearest(path.filename().string(), names);
  const std::string what = "there is no file or folder " + path.string();
  if (failed) {
    throw Error(Fault::bad_data, what, {"there is no folder " + folder.string() + " either"});
  }
  if (close.empty()) throw Error(Fault::bad_data, what, {}, "ls " + folder.string());
  throw Error(Fault::bad_data, what,
              {"did you mean " + (path.parent_path() / close).string() + "?"});
}

}  // namespace

std::vector<fs::path> find_files(const std::vector<std::string>& paths) {
  std::vector<fs::path> files;
  for (const std::string& path : paths) {
    std::error_code ignored;
    std::vector<std::string> names{path};
    if (!fs::exists(path, ignored)) {
      if (path.find_first_of("*?[") == std::string::npos) throw_not_there(path);
      names = matches_of(path);
    }
    for (const std::string& name : names) {
      if (fs::is_directory(name, ignored)) {
        const std::vector<fs::path> below = files_below(name);
        files.insert(files.end(), below.begin(), below.end());
      } else {
        kind_of(name);  // throws for what is not read, before anything is
        files.emplace_back(name);
      }
    }
  }
  if (files.empty())
    throw Error(Fault::usage, "no data is named", {}, "--data FILE, FOLDER or PATTERN");
  return files;
}

}  // namespace quire

#include <fmt/format.h>
#include <fnmatch.h>
#include <glob.h>

#include <algorithm>
#include <map>

#include "base/error.h"
#include "base/nearest.h"
#include "base/text.h"
#include "corpus/file_kind.h"
#include "corpus/records.h"
#include "tokens/shards.h"

namespace quire {
namespace {

namespace fs = std::filesystem;

bool hidden(const fs::path& path) {
  return path.filename().string().starts_with(".");
}

// Calls found(path) for every regular file below a folder; what is hidden is passed over.
template <class Found>
void walk(const fs::path& folder, const Found& found) {
  std::error_code failed;
  fs::recursive_directory_iterator entry(folder, failed);
  for (const fs::recursive_directory_iterator end; !failed && entry != end;
       entry.increment(failed)) {
    if (hidden(entry->path())) {
      entry.disable_recursion_pending();
    } else if (entry->is_regular_file(failed)) {
      found(entry->path());
    }
  }
  if (failed) {
    throw Error(Fault::bad_data, "cannot read the folder " + folder.string(), {failed.message()});
  }
}

// All texts below a folder; where there is none, its tables and .jsonl. A folder of texts often has
// a table that describes them, which is not meant.
std::vector<fs::path> files_below(const fs::path& folder, ReadingReport* report) {
  std::vector<fs::path> texts, others;
  std::map<std::string, std::int64_t> unread;  // extension -> files
  walk(folder, [&](const fs::path& path) {
    if (!is_read(path)) {
      ++unread[lower_extension(path)];
    } else {
      (kind_of(path) == FileKind::text ? texts : others).push_back(path);
    }
  });
  std::vector<fs::path>& files = texts.empty() ? others : texts;
  if (files.empty()) {
    std::string found;
    for (const auto& [extension, count] : unread) {
      found += fmt::format("{}{} × {}", found.empty() ? "it holds " : ", ", count,
                           extension.empty() ? "no extension" : extension);
    }
    throw Error(
        Fault::bad_data, "the folder " + folder.string() + " holds no .txt, .csv, .tsv or .jsonl",
        {found.empty() ? "it is empty" : found},
        unread.contains(kShardExtension) ? "quire train `paths` "_named + in_shell(folder.string())
                                         : "");
  }
  std::sort(files.begin(), files.end());
  if (report != nullptr) {
    ReadingReport::Skipped skipped{.folder = folder, .kinds = std::move(unread), .pattern = {}};
    skipped.texts_alone = !texts.empty();
    if (skipped.texts_alone && !others.empty()) {
      std::sort(others.begin(), others.end());
      for (const fs::path& path : others) ++skipped.kinds[lower_extension(path)];
      skipped.pattern = (folder / "**" / "*").string() + others[0].extension().string();
    }
    if (!skipped.kinds.empty()) report->skipped.push_back(std::move(skipped));
  }
  return files;
}

bool is_pattern(const std::string& text) {
  return text.find_first_of("*?[") != std::string::npos;
}

using Parts = std::vector<std::string>;  // of a path

// Whether parts match a pattern's parts, of which "**" stands for any number of folders.
bool matches(Parts::const_iterator pattern, Parts::const_iterator pattern_end,
             Parts::const_iterator part, Parts::const_iterator part_end) {
  if (pattern == pattern_end) return part == part_end;
  if (*pattern == "**") {
    return matches(pattern + 1, pattern_end, part, part_end) ||
           (part != part_end && matches(pattern, pattern_end, part + 1, part_end));
  }
  return part != part_end && ::fnmatch(pattern->c_str(), part->c_str(), FNM_PERIOD) == 0 &&
         matches(pattern + 1, pattern_end, part + 1, part_end);
}

// The files that match a pattern with "**", which glob() does not know.
std::vector<std::string> recursive_matches_of(const fs::path& pattern) {
  fs::path folder;  // what is before the first wildcard
  Parts parts;
  for (const fs::path& part : pattern) {
    if (parts.empty() && !is_pattern(part.string())) {
      folder /= part;
    } else {
      parts.push_back(part.string());
    }
  }
  std::vector<std::string> found;
  const fs::path start = folder.empty() ? "." : folder;
  std::error_code ignored;
  if (!fs::is_directory(start, ignored)) return found;
  walk(start, [&](const fs::path& path) {
    const fs::path below = path.lexically_relative(start);
    const Parts names(below.begin(), below.end());
    if (matches(parts.begin(), parts.end(), names.begin(), names.end())) {
      found.push_back((folder / below).string());
    }
  });
  return found;
}

std::vector<std::string> matches_of(const std::string& pattern) {
  std::vector<std::string> found;
  if (pattern.find("**") != std::string::npos) {
    found = recursive_matches_of(pattern);
  } else {
    glob_t list{};
    const int result = ::glob(pattern.c_str(), 0, nullptr, &list);
    if (result == 0) found.assign(list.gl_pathv, list.gl_pathv + list.gl_pathc);
    ::globfree(&list);
  }
  if (found.empty()) throw Error(Fault::bad_data, "no file matches '" + pattern + "'");
  std::sort(found.begin(), found.end());
  return found;
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
  if (close.empty()) throw Error(Fault::bad_data, what, {}, "ls " + in_shell(folder.string()));
  throw Error(Fault::bad_data, what,
              {"did you mean " + (path.parent_path() / close).string() + "?"});
}

}  // namespace

std::vector<fs::path> find_files(const std::vector<std::string>& paths, ReadingReport* report) {
  std::vector<fs::path> files;
  for (const std::string& path : paths) {
    std::error_code ignored;
    std::vector<std::string> names{path};
    if (!fs::exists(path, ignored)) {
      if (!is_pattern(path)) throw_not_there(path);
      names = matches_of(path);
    }
    for (const std::string& name : names) {
      if (fs::is_directory(name, ignored)) {
        const std::vector<fs::path> below = files_below(name, report);
        files.insert(files.end(), below.begin(), below.end());
      } else {
        kind_of(name);  // throws for what is not read, before anything is
        files.emplace_back(name);
      }
    }
  }
  if (files.empty())
    throw Error(Fault::usage, "no data is named", {}, "`paths` FILE, FOLDER or PATTERN"_named);
  return files;
}

}  // namespace quire

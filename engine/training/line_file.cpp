#include "engine/training/line_file.h"

namespace quire {
namespace {

const std::filesystem::path& with_lines(const std::filesystem::path& path,
                                        const std::function<bool(std::string_view)>& keep) {
  if (!std::filesystem::exists(path)) return path;
  const std::string content = read_file(path);
  std::string kept;
  for (std::string_view text = content; !text.empty();) {
    const std::size_t end = text.find('\n');
    if (end == std::string_view::npos) break;
    if (keep(text.substr(0, end))) kept.append(text.substr(0, end + 1));
    text.remove_prefix(end + 1);
  }
  write_file(path, kept);
  return path;
}

}  // namespace

LineFile::LineFile(const std::filesystem::path& path,
                   const std::function<bool(std::string_view)>& keep)
    : file_(with_lines(path, keep)) {}

}  // namespace quire

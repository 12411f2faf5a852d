#include "pipeline/resources.h"

#include <cstdlib>
#include <sstream>

#include "base/text.h"

namespace quire {

namespace fs = std::filesystem;

std::vector<fs::path> resource_folders() {
  std::vector<fs::path> folders;
  if (const char* data = std::getenv("QUIRE_DATA"); data != nullptr && *data != '\0') {
    folders.emplace_back(data);
  }
  std::error_code trouble;
  const fs::path program = fs::read_symlink("/proc/self/exe", trouble);
  if (trouble) return folders;
  const fs::path folder = program.parent_path();
  folders.push_back(folder);
  folders.push_back(folder.parent_path() / "share/quire");
  // build/bin/quire: the source tree is two folders up.
  const fs::path source = folder.parent_path().parent_path();
  if (fs::exists(source / "CMakePresets.json", trouble)) folders.push_back(source);
  return folders;
}

fs::path find_resource(const std::string& name) {
  std::error_code trouble;
  for (const fs::path& folder : resource_folders()) {
    if (fs::exists(folder / name, trouble)) return folder / name;
  }
  return {};
}

std::string shown_path(const fs::path& path) {
  std::error_code trouble;
  const fs::path relative = fs::absolute(path).lexically_relative(fs::current_path(trouble));
  const bool below = !relative.empty() && *relative.begin() != "..";
  return (below ? relative : path).string();
}

std::string program_as_typed() {
  std::error_code trouble;
  const fs::path program = fs::read_symlink("/proc/self/exe", trouble);
  if (trouble) return "quire";
  const char* variable = std::getenv("PATH");
  std::istringstream folders(variable != nullptr ? variable : "");
  for (std::string folder; std::getline(folders, folder, ':');) {
    if (fs::equivalent(fs::path(folder) / "quire", program, trouble)) return "quire";
  }
  const std::string shown = shown_path(program);
  return in_shell(shown.find('/') == std::string::npos ? "./" + shown : shown);
}

}  // namespace quire

#include "base/cache_folder.h"

#include <cstdlib>

namespace quire {

std::filesystem::path cache_folder() {
  const auto from_environment = [](const char* name, const char* below) -> std::filesystem::path {
    const char* const value = std::getenv(name);
    if (value == nullptr || *value == '\0') return {};
    return *below == '\0' ? std::filesystem::path(value) : std::filesystem::path(value) / below;
  };
  if (auto own = from_environment("QUIRE_CACHE_DIR", ""); !own.empty()) return own;
  if (auto all = from_environment("XDG_CACHE_HOME", "quire"); !all.empty()) return all;
  return from_environment("HOME", ".cache/quire");
}

}  // namespace quire

#include "base/hub_names.h"

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <optional>
#include <string_view>

namespace quire {

namespace fs = std::filesystem;

namespace {

constexpr std::string_view kCacheFolder = "models--";

std::optional<fs::path> from_environment(const char* name) {
  const char* value = std::getenv(name);
  if (value == nullptr || *value == '\0') return std::nullopt;
  return fs::path(value);
}

}  // namespace

fs::path hub_home() {
  if (const auto home = from_environment("HF_HOME")) return *home;
  if (const auto cache = from_environment("XDG_CACHE_HOME")) return *cache / "huggingface";
  return from_environment("HOME").value_or("/") / ".cache/huggingface";
}

fs::path hub_cache() {
  if (const auto cache = from_environment("HF_HUB_CACHE")) return *cache;
  return hub_home() / "hub";
}

bool may_be_hub_name(const std::string& name) {
  const auto allowed = [](unsigned char c) {
    return std::isalnum(c) != 0 || c == '-' || c == '_' || c == '.' || c == '/';
  };
  return !name.empty() && std::all_of(name.begin(), name.end(), allowed) &&
         !name.starts_with(".") && !name.starts_with("/") && !name.ends_with("/") &&
         std::count(name.begin(), name.end(), '/') <= 1 && name.find("..") == std::string::npos;
}

std::string hub_cache_folder(const std::string& name) {
  std::string folder(kCacheFolder);
  for (const char c : name) folder.append(c == '/' ? 2 : 1, c == '/' ? '-' : c);
  return folder;
}

std::string name_of_hub_cache_folder(const std::string& folder) {
  if (!folder.starts_with(kCacheFolder)) return {};
  const std::string name = folder.substr(kCacheFolder.size());
  const std::size_t dashes = name.find("--");
  if (dashes == std::string::npos) return name;
  return name.substr(0, dashes) + "/" + name.substr(dashes + 2);
}

}  // namespace quire

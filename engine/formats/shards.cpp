#include "engine/formats/shards.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/json.h"

namespace quire {

std::vector<std::vector<std::size_t>> share_out(std::span<const OutTensor> tensors,
                                                std::size_t most) {
  std::vector<std::vector<std::size_t>> files;
  std::vector<std::size_t> file;
  std::size_t size = 0;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const std::size_t bytes = tensors[i].bytes();
    if (bytes > most) {
      files.push_back({i});
      continue;
    }
    if (size + bytes > most) {
      files.push_back(std::move(file));
      file.clear();
      size = 0;
    }
    file.push_back(i);
    size += bytes;
  }
  if (!file.empty()) files.push_back(std::move(file));
  return files;
}

std::string shard_name(const std::string& name, std::size_t index, std::size_t count) {
  if (count == 1) return name;
  const std::size_t dot = name.rfind('.');
  return fmt::format("{}-{:05}-of-{:05}{}", name.substr(0, dot), index + 1, count,
                     name.substr(dot));
}

std::string shard_index(const std::string& name, std::span<const OutTensor> tensors,
                        const std::vector<std::vector<std::size_t>>& files,
                        const std::vector<std::pair<std::string, std::string>>& shared) {
  nlohmann::json map;
  std::size_t bytes = 0;
  std::int64_t parameters = 0;
  for (std::size_t f = 0; f < files.size(); ++f) {
    for (const std::size_t i : files[f]) {
      map[tensors[i].name] = shard_name(name, f, files.size());
      bytes += tensors[i].bytes();
      std::int64_t count = 1;
      for (const std::int64_t extent : tensors[i].shape) count *= extent;
      parameters += count;
    }
  }
  for (const auto& [alias, of] : shared) map[alias] = map[of];
  const nlohmann::json index = {
      {"metadata", {{"total_parameters", parameters}, {"total_size", bytes}}}, {"weight_map", map}};
  return json_text(index, 2) + "\n";
}

}  // namespace quire

#include "tokenizer/derive_merges.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <utility>

namespace quire {

std::optional<DerivedMerges> derive_merges(const std::vector<std::string_view>& tokens,
                                           const std::vector<bool>& no_merge) {
  std::array<std::int32_t, 256> byte_ids;
  byte_ids.fill(-1);
  for (std::size_t id = 0; id < tokens.size(); ++id) {
    if (tokens[id].size() != 1) continue;
    byte_ids[static_cast<unsigned char>(tokens[id][0])] = static_cast<std::int32_t>(id);
  }
  if (std::find(byte_ids.begin(), byte_ids.end(), -1) != byte_ids.end()) return std::nullopt;

  DerivedMerges derived;
  MergeTable table;  // those so far
  table.reserve(tokens.size());
  BpeEncoder bpe;
  std::vector<std::int32_t> parts;
  for (std::size_t id = 0; id < tokens.size(); ++id) {
    if (no_merge[id] || tokens[id].size() == 1) continue;
    parts.clear();
    for (const char byte : tokens[id]) parts.push_back(byte_ids[static_cast<unsigned char>(byte)]);
    parts.resize(bpe.merge(table, parts));
    const auto result = static_cast<std::int32_t>(id);
    if (parts.size() != 2 || !table.add({parts[0], parts[1], result})) {
      derived.odd.push_back({result, parts});
    }
  }
  derived.merges = table.merges();
  return derived;
}

}  // namespace quire

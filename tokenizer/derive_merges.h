// The merges of a vocabulary from its tokens alone. Where ids rise in the order in which merges were
// learnt, the pair that a token was made of is what the merges before it leave of the token: two
// parts (so does tiktoken, whose files have tokens and ranks alone).
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "tokenizer/bpe.h"

namespace quire {

struct DerivedMerges {
  std::vector<MergeTable::Merge> merges;  ///< in order of priority
  struct Odd {
    std::int32_t id;
    std::vector<std::int32_t> parts;  ///< what the merges before it leave of it
  };
  /// Tokens of several bytes that are left as something else than two parts, by id.
  std::vector<Odd> odd;
};

/// Of bytes by id, all different and none empty. Those of no_merge[id] are passed over. nullopt where
/// a byte has no token.
std::optional<DerivedMerges> derive_merges(const std::vector<std::string_view>& tokens,
                                           const std::vector<bool>& no_merge);

}  // namespace quire

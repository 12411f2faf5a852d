// Byte pair encoding of one piece: among neighbouring tokens the pair that stands first in the list
// of merges becomes one token (the leftmost, if it occurs more than once), until no pair is listed.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace quire {

/// The list of merges as a hash table from a pair of token ids to its rank. Open addressing in one
/// array of 8-byte slots, at most 2/5 full: 1 MB for GPT-2's 50,000 merges (3/8 would be 2 MB, whose
/// pages cost more than its look-ups spare), and most look-ups are of pairs that are not there,
/// which ends at the first free slot.
class MergeTable {
 public:
  static constexpr std::uint32_t none = 0xFFFFFFFF;
  static constexpr std::uint32_t max_tokens = 1u << 21;  // ids and ranks share 64 bits
  static constexpr std::uint32_t max_merges = (1u << 22) - 1;

  struct Merge {
    std::int32_t left, right, result;
  };

  /// Makes room for that many merges; to be called once, before the first add().
  void reserve(std::size_t merges);
  /// Adds the next merge. False when the pair is there already.
  bool add(const Merge& merge);

  std::uint32_t rank(std::int32_t left, std::int32_t right) const {
    const std::uint64_t key = key_of(left, right);
    for (std::size_t i = slot_of(key);; i = (i + 1) & mask_) {
      if (slots_[i] >> 22 == key) return static_cast<std::uint32_t>(slots_[i] & max_merges);
      if (slots_[i] == free_slot) return none;
    }
  }
  std::int32_t result(std::uint32_t rank) const { return merges_[rank].result; }
  const std::vector<Merge>& merges() const { return merges_; }

 private:
  static constexpr std::uint64_t free_slot = ~std::uint64_t{0};  // rank max_merges: never given out

  static std::uint64_t key_of(std::int32_t left, std::int32_t right) {
    return static_cast<std::uint64_t>(left) << 21 | static_cast<std::uint64_t>(right);
  }
  std::size_t slot_of(std::uint64_t key) const {
    return static_cast<std::size_t>(key * 0x9E3779B97F4A7C15u >> shift_);
  }

  std::vector<std::uint64_t> slots_ = {free_slot,
                                       free_slot};  // left id, right id, rank: 21+21+22 bits
  std::size_t mask_ = 1;
  int shift_ = 63;
  std::vector<Merge> merges_;
};

/// Merges the tokens of one piece; keeps its working memory between pieces. Short pieces look for
/// the lowest rank by scanning an array, which is quadratic with a tiny constant; long ones use a
/// heap over a linked list, n log n.
class BpeEncoder {
 public:
  /// Replaces ids[0..n) by the merged tokens and returns their number.
  std::size_t merge(const MergeTable& table, std::span<std::int32_t> ids);

 private:
  std::size_t merge_short(const MergeTable& table, std::int32_t* ids, std::size_t count);
  std::size_t merge_long(const MergeTable& table, std::span<std::int32_t> ids);

  std::vector<std::uint32_t> next_, previous_, ranks_;
  std::vector<std::uint64_t> heap_;  // rank << 32 | position
};

}  // namespace quire

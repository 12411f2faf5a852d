#include "tokenizer/bpe.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <functional>

#include "base/error.h"

namespace quire {

void MergeTable::reserve(std::size_t merges) {
  const std::size_t slots = std::bit_ceil(std::max<std::size_t>(2, merges * 5 / 2));
  slots_.assign(slots, free_slot);
  mask_ = slots - 1;
  shift_ = 64 - std::countr_zero(slots);
  merges_.reserve(merges);
}

bool MergeTable::add(const Merge& merge) {
  const std::uint64_t key = key_of(merge.left, merge.right);
  std::size_t i = slot_of(key);
  while (slots_[i] != free_slot) {
    if (slots_[i] >> 22 == key) return false;
    i = (i + 1) & mask_;
  }
  slots_[i] = key << 22 | merges_.size();
  merges_.push_back(merge);
  return true;
}

namespace {

// Above this the heap is faster.
constexpr std::size_t short_piece = 128;

}  // namespace

std::size_t BpeEncoder::merge(const MergeTable& table, std::span<std::int32_t> ids) {
  if (ids.size() < 2) return ids.size();
  if (ids.size() <= short_piece) return merge_short(table, ids.data(), ids.size());
  return merge_long(table, ids);
}

std::size_t BpeEncoder::merge_short(const MergeTable& table, std::int32_t* ids, std::size_t count) {
  std::array<std::uint32_t, short_piece> ranks;  // ranks[i] is that of the pair (i, i + 1)
  for (std::size_t i = 0; i + 1 < count; ++i) ranks[i] = table.rank(ids[i], ids[i + 1]);
  while (count > 1) {
    std::uint32_t best = ranks[0];
    for (std::size_t i = 1; i + 1 < count; ++i) best = std::min(best, ranks[i]);
    if (best == MergeTable::none) break;
    std::size_t at = 0;
    while (ranks[at] != best) ++at;

    ids[at] = table.result(best);
    --count;
    std::memmove(ids + at + 1, ids + at + 2, (count - at - 1) * sizeof *ids);
    if (at + 1 < count) {
      std::memmove(&ranks[at + 1], &ranks[at + 2], (count - at - 2) * sizeof ranks[0]);
      ranks[at] = table.rank(ids[at], ids[at + 1]);
    }
    if (at > 0) ranks[at - 1] = table.rank(ids[at - 1], ids[at]);
  }
  return count;
}

std::size_t BpeEncoder::merge_long(const MergeTable& table, std::span<std::int32_t> ids) {
  if (ids.size() >= MergeTable::none) {
    throw Error(Fault::bad_data, "a run of letters of 4 GiB cannot be encoded",
                {"it holds " + std::to_string(ids.size()) + " bytes without a boundary"});
  }
  const auto count = static_cast<std::uint32_t>(ids.size());
  constexpr std::uint32_t none = MergeTable::none;
  next_.resize(count);
  previous_.resize(count);
  ranks_.resize(count);  // of the pair that begins here; none where there is no such pair
  heap_.clear();
  const auto entry = [](std::uint32_t rank, std::uint32_t at) {
    return std::uint64_t{rank} << 32 | at;
  };
  for (std::uint32_t i = 0; i < count; ++i) {
    next_[i] = i + 1 < count ? i + 1 : none;
    previous_[i] = i > 0 ? i - 1 : none;
    ranks_[i] = i + 1 < count ? table.rank(ids[i], ids[i + 1]) : none;
    if (ranks_[i] != none) heap_.push_back(entry(ranks_[i], i));
  }
  const auto later = std::greater<>();
  std::make_heap(heap_.begin(), heap_.end(), later);
  const auto rank_again = [&](std::uint32_t at) {
    const std::uint32_t right = next_[at];
    ranks_[at] = right == none ? none : table.rank(ids[at], ids[right]);
    if (ranks_[at] == none) return;
    heap_.push_back(entry(ranks_[at], at));
    std::push_heap(heap_.begin(), heap_.end(), later);
  };
  while (!heap_.empty()) {
    const std::uint64_t top = heap_.front();
    std::pop_heap(heap_.begin(), heap_.end(), later);
    heap_.pop_back();
    const auto at = static_cast<std::uint32_t>(top);
    const auto rank = static_cast<std::uint32_t>(top >> 32);
    if (ranks_[at] != rank) continue;  // the pair has changed since

    const std::uint32_t gone = next_[at];
    ids[at] = table.result(rank);
    ranks_[gone] = none;
    next_[at] = next_[gone];
    if (next_[at] != none) previous_[next_[at]] = at;
    rank_again(at);
    if (previous_[at] != none) rank_again(previous_[at]);
  }
  std::size_t merged = 0;
  for (std::uint32_t i = 0; i != none; i = next_[i]) ids[merged++] = ids[i];
  return merged;
}

}  // namespace quire

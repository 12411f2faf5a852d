#include "engine/model/cache_blocks.h"

#include <algorithm>

#include "kernels/ops.h"

namespace quire {

CacheBlocks::CacheBlocks(std::size_t rows, int slots)
    : whole_(slots / kCacheBlock),
      rest_(slots % kCacheBlock),
      tables_(rows),
      users_(rows * static_cast<std::size_t>(whole_)) {}

/// A row that wants a whole block has fewer than whole_, so one of rows·whole_ is free.
void CacheBlocks::reserve(std::size_t row, int slots) {
  std::vector<std::int32_t>& table = tables_.at(row);
  while (std::ssize(table) * kCacheBlock < slots) {
    if (std::ssize(table) == whole_) {
      table.push_back(static_cast<int>(users_.size()) * kCacheBlock +
                      static_cast<int>(row) * rest_);
    } else {
      const auto free = std::ranges::find(users_, 0);
      *free = 1;
      table.push_back(static_cast<int>(free - users_.begin()) * kCacheBlock);
    }
  }
}

void CacheBlocks::clear(std::size_t row) {
  std::vector<std::int32_t>& table = tables_.at(row);
  if (std::ssize(table) > whole_) table.pop_back();
  for (const int position : table) --users_[position / kCacheBlock];
  table.clear();
}

void CacheBlocks::share(std::size_t to, std::size_t from, int slots) {
  clear(to);
  const std::vector<std::int32_t>& common = tables_.at(from);
  tables_[to].assign(common.begin(), common.begin() + slots / kCacheBlock);
  for (const int position : tables_[to]) ++users_[position / kCacheBlock];
  reserve(to, slots);
}

std::ptrdiff_t CacheBlocks::in_use() const {
  return std::ssize(users_) - std::ranges::count(users_, 0);
}

}  // namespace quire

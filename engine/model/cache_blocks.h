// Where the rows of a key/value cache have their slots.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace quire {

/// Rows of `slots` slots each take blocks of kCacheBlock positions as they grow. Full blocks of a
/// common past are shared. A block that is not full is one row's own, and so is the shorter one
/// that ends a row whose slots are no whole blocks: rows·slots positions are enough for any rows.
class CacheBlocks {
 public:
  CacheBlocks(std::size_t rows, int slots);

  /// The positions where the row's blocks begin.
  std::span<const std::int32_t> operator[](std::size_t row) const { return tables_.at(row); }
  /// Makes room for the row's first `slots` slots.
  void reserve(std::size_t row, int slots);
  void clear(std::size_t row);
  /// Row `to` gets what row `from` has of the first `slots` slots: the same blocks as far as they
  /// are full, then one of its own.
  void share(std::size_t to, std::size_t from, int slots);

  std::ptrdiff_t in_use() const;  ///< whole blocks that rows have

 private:
  std::ptrdiff_t whole_;  // blocks of a row
  int rest_;              // slots behind them
  std::vector<std::vector<std::int32_t>> tables_;
  std::vector<int> users_;  // rows that have a whole block
};

}  // namespace quire

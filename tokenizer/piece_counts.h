// How often each piece occurs in a text of any size: what BPE training needs to know of it.
#pragma once

#include <cstdint>
#include <deque>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace quire {

/// A hash table from pieces to counts. Piece bytes lie in blocks that never move.
class PieceCounts {
 public:
  struct Entry {
    const char* bytes = nullptr;  // nullptr: free
    std::uint32_t length = 0;
    std::uint32_t hash = 0;
    std::uint64_t count = 0;
    std::string_view piece() const { return {bytes, length}; }
  };

  void add(std::string_view piece, std::uint64_t count);
  void add(const PieceCounts& other);
  /// Calls visit(const Entry&) for each piece, in no particular order.
  template <typename Visit>
  void for_each(Visit&& visit) const {
    for (const Entry& entry : entries_) {
      if (entry.bytes != nullptr) visit(entry);
    }
  }
  std::size_t size() const { return used_; }

 private:
  void grow();
  const char* store(std::string_view piece);

  std::vector<Entry> entries_ = std::vector<Entry>(1 << 12);
  std::size_t used_ = 0;
  std::vector<std::unique_ptr<char[]>> blocks_;
  std::size_t block_left_ = 0;
  char* block_at_ = nullptr;
};

/// Splits text that arrives in chunks. The split is that of the whole text wherever the chunks end,
/// and special tokens are cut out as encoding does.
class PieceCounter {
 public:
  PieceCounter(std::vector<std::string> special_tokens, int threads);
  ~PieceCounter();

  void add_chunk(std::string_view bytes);
  /// The text (a file) is over: what comes next does not join it.
  void end_text();
  /// All pieces so far. The counter is empty afterwards.
  PieceCounts take();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace quire

// How often each piece occurs in a text of any size: what BPE training needs to know of it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/added_tokens.h"

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

  void add_chunk(std::string_view bytes);
  /// The text (a file) is over: what comes next does not join it.
  void end_text();
  /// All pieces so far. The counter is empty afterwards.
  PieceCounts take();

 private:
  /// Counts some text; its end is an end of pieces.
  void count(std::string_view whole);
  void count_segment(std::string_view segment);

  AddedTokenFinder specials_;
  std::vector<PieceCounts> counts_;  // one a thread
  std::string raw_;                  // an unfinished character of the last chunk
  std::string text_;                 // valid UTF-8, not counted yet
  std::size_t without_cut_ = 0;      // text that is known to have no place to cut
};

}  // namespace quire

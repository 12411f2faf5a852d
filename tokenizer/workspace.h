// What one encode() needs besides the tokenizer: a cache of pieces already encoded, and the memory
// that merging works in. A tokenizer keeps a pool of them, so that the cache stays warm from call
// to call and no two threads share one.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <vector>

#include "tokenizer/bpe.h"

namespace quire {

/// Pieces of up to 15 bytes as 16-byte keys: the bytes, zeros, and the length in the last byte
/// (which tells a zero byte from none, and a used entry from a free one).
struct PieceKey {
  std::uint64_t low = 0;
  std::uint64_t high = 0;

  static constexpr std::size_t max_length = 15;

  /// The piece of `length` <= 15 bytes at `at`, of which 16 can be read.
  static PieceKey from_readable16(const char* at, std::size_t length) {
    PieceKey key;
    std::memcpy(&key, at, 16);
    key.low &= masks[length].low;
    key.high = (key.high & masks[length].high) | std::uint64_t{length} << 56;
    return key;
  }
  static PieceKey from(const char* at, std::size_t length) {
    PieceKey key;
    std::memcpy(&key, at, length);
    key.high |= std::uint64_t{length} << 56;
    return key;
  }
  bool operator==(const PieceKey&) const = default;

  std::uint64_t hash() const {
    const auto product =
        static_cast<unsigned __int128>(low ^ 0x9E3779B97F4A7C15u) * (high ^ 0xD6E8FEB86659FD93u);
    return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
  }

 private:
  static const std::array<PieceKey, 16> masks;
};

/// A direct-mapped cache from pieces to at most three tokens: 32 bytes an entry, so one cache line
/// a look-up. 32,768 entries (1 MB) hold the words in use; a new piece takes its slot's place.
class PieceCache {
 public:
  struct alignas(32) Entry {
    PieceKey key;
    std::int32_t ids[3];
    std::uint32_t count;
  };
  static constexpr std::size_t max_ids = 3;

  PieceCache() : entries_(std::size_t{1} << bits) {}
  Entry& slot(const PieceKey& key) { return entries_[key.hash() >> (64 - bits)]; }

 private:
  static constexpr int bits = 15;
  std::vector<Entry> entries_;
};

class Workspace {
 public:
  PieceCache cache;
  BpeEncoder bpe;
  std::vector<std::int32_t> long_piece;
  std::array<std::int32_t, 4096> tokens;  // gathered here, then given at once
};

}  // namespace quire

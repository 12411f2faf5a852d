// GPT-2's pre-tokenizer: cuts text into pieces, inside which merges happen. Its pattern is
//
//   's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
//
// In words: an English contraction; or a run of letters, of numbers, or of anything else but
// spaces, each with one space before it if there is one; or a run of spaces, which leaves its last
// one to what follows. Pieces follow one another without gaps.
//
// Most pieces are short and ASCII, so 16 bytes are classed at once and the piece's end is counted
// in a bit mask: no branch depends on the length of a word (a byte loop mispredicts once a word).
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace quire {

/// The end of the piece that begins at `at`. The text up to `end` is valid UTF-8, and `at` < `end`
/// is the start of the text or the end of a piece.
const char* piece_end(const char* at, const char* end);

namespace splitter {

inline constexpr std::uint8_t letter = 1, number = 2, space = 3, not_ascii = 0x80;

inline constexpr std::array<std::uint8_t, 256> class_of_byte = [] {
  std::array<std::uint8_t, 256> table{};
  for (int c = 0; c < 256; ++c) {
    auto& entry = table[c];
    if ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') entry = letter;
    if (c >= '0' && c <= '9') entry = number;
    if (c == ' ' || (c >= '\t' && c <= '\r')) entry = space;
    if (c >= 0x80) entry = not_ascii;
  }
  return table;
}();

using Bytes16 = std::uint8_t __attribute__((vector_size(16)));

/// The length of the piece at `at`, or 0 when this quick look cannot tell: a piece of 16 bytes or
/// more, one that touches a character outside ASCII, or a possible contraction. Reads 16 bytes.
inline std::size_t short_ascii_piece(const char* at) {
  const auto byte = [at](std::size_t i) { return static_cast<unsigned char>(at[i]); };
  const std::size_t skip = byte(0) == ' ' && class_of_byte[byte(1)] != space;
  const std::uint8_t kind = class_of_byte[byte(skip)];

  Bytes16 v;
  std::memcpy(&v, at, 16);
  const Bytes16 letters = (Bytes16)((v | 0x20) - 'a' < 26);
  const Bytes16 numbers = (Bytes16)(v - '0' < 10);
  const Bytes16 spaces = (Bytes16)((v == ' ') | (v - '\t' < 5));
  const Bytes16 kinds =
      (letters & letter) | (numbers & number) | (spaces & space) | (v & not_ascii);
  const Bytes16 same = (Bytes16)(kinds == kind);

  // One bit a byte: the multiplication gathers the lowest bits of 8 bytes in the top byte.
  std::uint64_t half[2];
  std::memcpy(half, &same, 16);
  constexpr std::uint64_t low_bits = 0x0101010101010101u, gather = 0x0102040810204080u;
  const unsigned mask = static_cast<unsigned>((half[0] & low_bits) * gather >> 56) |
                        static_cast<unsigned>((half[1] & low_bits) * gather >> 56) << 8;
  const auto length = static_cast<std::size_t>(std::countr_one(mask | static_cast<unsigned>(skip)));

  if (length == 16 || byte(length) >= 0x80 || kind == not_ascii) return 0;
  if (byte(0) == '\'' && class_of_byte[byte(1)] == letter) return 0;
  return length - (kind == space && length > 1);
}

}  // namespace splitter

/// Calls sink(first byte, length) for every piece of a text that is valid UTF-8.
template <typename Sink>
inline void for_each_piece(std::string_view text, Sink&& sink) {
  const char* at = text.data();
  const char* end = at + text.size();
  while (at != end) {
    std::size_t length = 0;
    if (end - at >= 16) length = splitter::short_ascii_piece(at);
    if (length == 0) length = static_cast<std::size_t>(piece_end(at, end) - at);
    sink(at, length);
    at += length;
  }
}

}  // namespace quire

// Whole numbers as decimal digits, many of them: no branch on how many digits a number has, which in
// a list of token ids nothing predicts.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace quire {

inline constexpr std::uint32_t kDecimalEnd = 100'000'000;  ///< put_decimal() takes what is below
inline constexpr std::size_t kDecimalRoom = 8;             ///< what it may write

/// Writes the digits of a number below kDecimalEnd and returns where they end. All of the
/// kDecimalRoom bytes at `to` are written.
inline char* put_decimal(char* to, std::uint32_t number) {
  static_assert(std::endian::native == std::endian::little, "the first digit is the lowest byte");
  // Halves, quarters, digits: each step divides all parts at once. 5243 / 2^19 is 1 / 100 for what
  // is below 10,000, and 103 / 2^10 is 1 / 10 for what is below 100, both rounded down.
  std::uint64_t parts = number / 10000 | std::uint64_t{number % 10000} << 32;
  const std::uint64_t hundreds = parts * 5243 >> 19 & 0x0000007F0000007F;
  parts = hundreds | (parts - 100 * hundreds) << 16;
  const std::uint64_t tens = parts * 103 >> 10 & 0x000F000F000F000F;
  parts = tens | (parts - 10 * tens) << 8;
  const int zeros = std::countr_zero(parts | std::uint64_t{1} << 56) / 8;  // the last digit stays
  const std::uint64_t digits = (parts | 0x3030303030303030) >> 8 * zeros;
  std::memcpy(to, &digits, sizeof digits);
  return to + (8 - zeros);
}

}  // namespace quire

#include "engine/formats/crc32.h"

#include <array>
#include <bit>
#include <cstring>

namespace quire {
namespace {

static_assert(std::endian::native == std::endian::little);

constexpr std::uint32_t kPolynomial = 0xEDB88320u;

/// Of a polynomial and x; bit 31 is x^0.
constexpr std::uint32_t times_x(std::uint32_t a) {
  return (a & 1u) != 0 ? a >> 1 ^ kPolynomial : a >> 1;
}

/// Entry [k][b]: byte b with k bytes of zeros behind it. 8 bytes a step, whose look-ups do not wait
/// for each other.
using Tables = std::array<std::array<std::uint32_t, 256>, 8>;
constexpr Tables make_tables() {
  Tables tables{};
  for (std::uint32_t b = 0; b < 256; ++b) {
    std::uint32_t value = b;
    for (int i = 0; i < 8; ++i) value = times_x(value);
    tables[0][b] = value;
  }
  for (std::size_t k = 1; k < tables.size(); ++k) {
    for (std::size_t b = 0; b < 256; ++b) {
      const std::uint32_t before = tables[k - 1][b];
      tables[k][b] = before >> 8 ^ tables[0][before & 255];
    }
  }
  return tables;
}
constexpr Tables kTables = make_tables();

std::uint32_t product(std::uint32_t a, std::uint32_t b) {
  std::uint32_t sum = 0;
  for (std::uint32_t bit = 1u << 31; bit != 0; bit >>= 1) {
    if ((a & bit) != 0) sum ^= b;
    b = times_x(b);
  }
  return sum;
}

}  // namespace

std::uint32_t crc32(std::span<const std::byte> bytes) {
  std::uint32_t crc = ~0u;
  while (bytes.size() >= 8) {
    std::uint64_t next = 0;
    std::memcpy(&next, bytes.data(), 8);
    next ^= crc;
    crc = 0;
    for (std::size_t k = 0; k < 8; ++k) crc ^= kTables[7 - k][next >> 8 * k & 255];
    bytes = bytes.subspan(8);
  }
  for (const std::byte byte : bytes) {
    crc = crc >> 8 ^ kTables[0][(crc ^ std::to_integer<std::uint32_t>(byte)) & 255];
  }
  return ~crc;
}

std::uint32_t joined_crc32(std::uint32_t first, std::uint32_t second, std::size_t second_size) {
  // The first times x^(8·size), modulo the polynomial, by squaring.
  std::uint32_t power = 1u << (31 - 8);  // x^8
  for (; second_size != 0; second_size >>= 1) {
    if ((second_size & 1) != 0) first = product(power, first);
    power = product(power, power);
  }
  return first ^ second;
}

}  // namespace quire

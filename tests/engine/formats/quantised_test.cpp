#include "engine/formats/quantised.h"

#include <cmath>
#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

#include "kernels/tensor.h"
#include "tests/engine/formats/checkpoints.h"
#include "tests/support/catch.h"

namespace quire::test {
namespace {

/// Bytes of random blocks, in which those at `halves` of each are numbers of float16 from 2^-4 to 8,
/// either sign: what comes of them is exact in double.
std::string random_blocks(std::size_t blocks, std::size_t size,
                          const std::vector<std::size_t>& halves, std::mt19937& random) {
  std::string bytes(blocks * size, '\0');
  for (char& byte : bytes) byte = static_cast<char>(random());
  for (std::size_t block = 0; block < blocks; ++block) {
    for (const std::size_t at : halves) {
      const auto exponent = static_cast<std::uint16_t>(11 + random() % 7);
      const auto half = static_cast<std::uint16_t>((random() & 0x83ff) | exponent << 10);
      std::memcpy(bytes.data() + block * size + at, &half, sizeof half);
    }
  }
  return bytes;
}

/// A number of float16 that is neither tiny nor infinite, by its definition (IEEE 754).
double half_at(const std::string& bytes, std::size_t at) {
  const auto low = static_cast<unsigned char>(bytes[at]),
             high = static_cast<unsigned char>(bytes[at + 1]);
  const int exponent = (high >> 2 & 31) - 15;
  const double size = std::ldexp(1.0 + ((high & 3) * 256 + low) / 1024.0, exponent);
  return (high & 128) != 0 ? -size : size;
}
/// Bits first … first + count - 1 of the bytes from `at` on, counted from the lowest of each.
unsigned bits(const std::string& bytes, std::size_t at, std::size_t first, std::size_t count) {
  unsigned value = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const auto byte = static_cast<unsigned char>(bytes[at + (first + i) / 8]);
    value |= (byte >> (first + i) % 8 & 1u) << i;
  }
  return value;
}

std::vector<float> dequantised(const char* type, const std::string& bytes, std::size_t elements) {
  std::vector<float> values(elements, NAN);
  dequantise(type, reinterpret_cast<const std::byte*>(bytes.data()), values);
  return values;
}

}  // namespace

TEST_CASE("dequantise Q8_0: a scale and 32 bytes") {
  std::mt19937 random(1);
  const std::string bytes = random_blocks(50, 34, {0}, random);
  const std::vector<float> values = dequantised("Q8_0", bytes, std::size_t{50} * 32);
  for (std::size_t i = 0; i < values.size(); ++i) {
    const std::size_t block = i / 32 * 34;
    const auto q = static_cast<signed char>(bytes[block + 2 + i % 32]);
    REQUIRE(values[i] == static_cast<float>(half_at(bytes, block) * q));
  }
}

TEST_CASE("dequantise Q4_0: a scale, the low halves of 16 bytes, then the high ones") {
  std::mt19937 random(2);
  const std::string bytes = random_blocks(50, 18, {0}, random);
  const std::vector<float> values = dequantised("Q4_0", bytes, std::size_t{50} * 32);
  for (std::size_t i = 0; i < values.size(); ++i) {
    const std::size_t block = i / 32 * 18, within = i % 32;
    const unsigned q = bits(bytes, block + 2 + within % 16, within / 16 * 4, 4);
    REQUIRE(values[i] == static_cast<float>(half_at(bytes, block) * (double(q) - 8.0)));
  }
}

TEST_CASE("dequantise Q4_K: eight scales and minima of 6 bits for 32 halves of bytes each") {
  std::mt19937 random(3);
  const std::string bytes = random_blocks(50, 144, {0, 2}, random);
  const std::vector<float> values = dequantised("Q4_K", bytes, std::size_t{50} * 256);
  for (std::size_t i = 0; i < values.size(); ++i) {
    const std::size_t block = i / 256 * 144, packed = block + 4, part = i % 256 / 32;
    // In 12 bytes: the low 6 bits of 0-3 are scales 0-3, those of 4-7 minima 0-3; of 8-11 the low
    // halves begin scales 4-7 and the high ones minima 4-7, which end in the two top bits of 0-3 and
    // 4-7.
    const std::size_t four = part % 4;
    const unsigned scale =
        part < 4 ? bits(bytes, packed + four, 0, 6)
                 : bits(bytes, packed + 8 + four, 0, 4) + 16 * bits(bytes, packed + four, 6, 2);
    const unsigned minimum =
        part < 4 ? bits(bytes, packed + 4 + four, 0, 6)
                 : bits(bytes, packed + 8 + four, 4, 4) + 16 * bits(bytes, packed + 4 + four, 6, 2);
    const unsigned q = bits(bytes, block + 16 + part / 2 * 32 + i % 32, part % 2 * 4, 4);
    const double exact = half_at(bytes, block) * scale * q - half_at(bytes, block + 2) * minimum;
    REQUIRE(values[i] == static_cast<float>(exact));
  }
}

}  // namespace quire::test

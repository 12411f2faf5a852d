// Random numbers as a function of a counter: the n-th number of a stream is computed from n alone,
// so every device and every number of threads draws the same ones.
//
// Philox4x32-10 of Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3"
// (SC 2011). Key = seed (64 bits); counter = {n low, n high, stream low, stream high}.
#pragma once

#include <array>
#include <cstdint>

namespace quire {

/// Names a stream of random numbers. Streams of one seed are independent of each other.
struct RandomKey {
  std::uint64_t seed = 0;
  std::uint64_t stream = 0;
  /// Where the stream begins, in blocks of four numbers: who holds a part of a tensor draws what is
  /// drawn for that part of the whole one.
  std::uint64_t first_block = 0;
};

/// Four 32-bit numbers: block `block` of the stream, that is its numbers 4·block … 4·block + 3.
constexpr std::array<std::uint32_t, 4> random_block(RandomKey key, std::uint64_t block) {
  block += key.first_block;
  std::array<std::uint32_t, 4> c = {
      static_cast<std::uint32_t>(block), static_cast<std::uint32_t>(block >> 32),
      static_cast<std::uint32_t>(key.stream), static_cast<std::uint32_t>(key.stream >> 32)};
  std::uint32_t k0 = static_cast<std::uint32_t>(key.seed);
  std::uint32_t k1 = static_cast<std::uint32_t>(key.seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t p0 = std::uint64_t{0xD2511F53u} * c[0];
    const std::uint64_t p1 = std::uint64_t{0xCD9E8D57u} * c[2];
    c = {static_cast<std::uint32_t>(p1 >> 32) ^ c[1] ^ k0, static_cast<std::uint32_t>(p1),
         static_cast<std::uint32_t>(p0 >> 32) ^ c[3] ^ k1, static_cast<std::uint32_t>(p0)};
    k0 += 0x9E3779B9u;  // the golden ratio and sqrt(3) - 1, as the paper has them
    k1 += 0xBB67AE85u;
  }
  return c;
}

/// Number `index` of the stream.
constexpr std::uint32_t random_bits(RandomKey key, std::uint64_t index) {
  return random_block(key, index / 4)[index % 4];
}

/// Number `index` of the stream, uniform in [0, 1) with 24 bits.
constexpr float random_uniform(RandomKey key, std::uint64_t index) {
  return static_cast<float>(random_bits(key, index) >> 8) * 0x1p-24f;
}

/// Mixes two numbers into one, to derive stream names (SplitMix64's finisher).
constexpr std::uint64_t mix(std::uint64_t a, std::uint64_t b) {
  std::uint64_t z = a + 0x9E3779B97F4A7C15u * (b + 1);
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

/// Dropout keeps an element when its number is at or above this: P(drop) = p.
constexpr std::uint32_t dropout_threshold(float p) {
  return static_cast<std::uint32_t>(static_cast<double>(p) * 4294967296.0);
}

}  // namespace quire

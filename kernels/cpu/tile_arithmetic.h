// The arithmetic of TDPBF16PS in plain C++, exact on any processor: what the trial of AMX and the tests
// hold products against.
#pragma once

#include <array>
#include <bit>
#include <cmath>
#include <cstdint>

namespace quire::cpu::tile {

inline constexpr std::int64_t kStepDepth = 32;  ///< k of one step

/// Subnormal numbers count as zero of their sign.
inline float flushed(float x) {
  return std::abs(x) < 0x1p-126f ? std::copysign(0.0f, x) : x;
}

/// A bfloat16 as it is multiplied.
inline float widened(std::uint16_t bits) {
  return flushed(std::bit_cast<float>(std::uint32_t{bits} << 16));
}

/// a·b + c, rounded once, for a and b of 8 significant bits; zero where the result is too small for a
/// normal number once it has 24 bits. In double the product is exact, and the sum, too, unless one of
/// both lies below the other's 53 bits: that other one, of 24 bits, is then the result either way.
inline float multiply_add(float a, float b, float c) {
  const double sum = static_cast<double>(a) * static_cast<double>(b) + static_cast<double>(c);
  const auto rounded = static_cast<float>(sum);
  return std::abs(sum) < 0x1.ffffffp-127 ? std::copysign(0.0f, rounded) : rounded;
}

/// a + b. A sum that is no normal number is exact.
inline float add(float a, float b) {
  return flushed(flushed(a) + flushed(b));
}

/// c and one step: a has its 32 numbers one behind the other, b's lie `stride` apart.
inline float with_step(float c, const std::uint16_t* a, const std::uint16_t* b,
                       std::int64_t stride) {
  float even = 0.0f, odd = 0.0f;
  for (std::int64_t k = 0; k < kStepDepth; k += 2) {
    even = multiply_add(widened(a[k]), widened(b[k * stride]), even);
    odd = multiply_add(widened(a[k + 1]), widened(b[(k + 1) * stride]), odd);
  }
  return add(c, add(even, odd));
}

}  // namespace quire::cpu::tile

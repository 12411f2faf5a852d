#include "engine/formats/quantised.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>

#include "base/error.h"
#include "kernels/tensor.h"

namespace quire {
namespace {

float half_at(const std::byte* from) {
  Half half;
  std::memcpy(&half, from, sizeof half);
  return to_float(half);
}

unsigned byte_at(const std::byte* from) {
  return std::to_integer<unsigned>(*from);
}

void q8_0(const std::byte* from, float* to) {
  const float d = half_at(from);
  for (int i = 0; i < 32; ++i) {
    std::int8_t q = 0;
    std::memcpy(&q, from + 2 + i, 1);
    to[i] = d * static_cast<float>(q);
  }
}

void q4_0(const std::byte* from, float* to) {
  const float d = half_at(from);
  for (int i = 0; i < 16; ++i) {
    const unsigned pair = byte_at(from + 2 + i);
    to[i] = d * (static_cast<float>(pair & 15) - 8.0f);
    to[i + 16] = d * (static_cast<float>(pair >> 4) - 8.0f);
  }
}

void q4_k(const std::byte* from, float* to) {
  const float d = half_at(from), minimum = half_at(from + 2);
  const std::byte* packed = from + 4;
  const std::byte* nibbles = from + 16;
  for (int part = 0; part < 8; ++part) {
    // The first four have 6 bits of a byte each; the others 4 bits, and 2 left over in the first.
    const unsigned at = byte_at(packed + part), beside = byte_at(packed + part + 4);
    unsigned scale = at & 63, low = beside & 63;
    if (part >= 4) {
      scale = (beside & 15) | byte_at(packed + part - 4) >> 6 << 4;
      low = beside >> 4 | at >> 6 << 4;
    }
    for (int i = 0; i < 32; ++i) {
      const unsigned pair = byte_at(nibbles + part / 2 * 32 + i);
      const unsigned q = part % 2 == 0 ? pair & 15 : pair >> 4;
      to[part * 32 + i] =
          d * static_cast<float>(scale) * static_cast<float>(q) - minimum * static_cast<float>(low);
    }
  }
}

/// False where float16 cannot hold it.
bool put_half(float value, std::byte* to) {
  const Half half = to_half(value);
  std::memcpy(to, &half, sizeof half);
  return (half.bits & 0x7c00) != 0x7c00;
}

/// The first element of the largest magnitude: all that its block is scaled by.
std::size_t largest_of(const float* from) {
  float largest = 0.0f;
  for (std::size_t i = 0; i < 32; ++i) largest = std::max(largest, std::abs(from[i]));
  std::size_t at = 0;
  while (at < 31 && std::abs(from[at]) != largest) ++at;
  return at;
}

/// 1/d, and 0 for what float16 takes as 0 anyway.
float inverse_of(float d) {
  const float inverse = 1.0f / d;
  return std::isfinite(inverse) ? inverse : 0.0f;
}

bool to_q8_0(const float* from, std::byte* to) {
  const float d = std::abs(from[largest_of(from)]) / 127.0f;
  const float inverse = inverse_of(d);
  std::int8_t q[32];
  for (int i = 0; i < 32; ++i) {
    // roundf(), which compilers for plain x86-64 call for each element.
    const float value = from[i] * inverse;
    const int whole = static_cast<int>(value);
    const float rest = value - static_cast<float>(whole);
    q[i] = static_cast<std::int8_t>(whole + (rest >= 0.5f ? 1 : 0) - (rest <= -0.5f ? 1 : 0));
  }
  std::memcpy(to + 2, q, sizeof q);
  return put_half(d, to);
}

bool to_q4_0(const float* from, std::byte* to) {
  const float d = from[largest_of(from)] / -8.0f;
  const float inverse = inverse_of(d);
  std::uint8_t q[32];
  for (int i = 0; i < 32; ++i) {
    // In double: llama.cpp's builds use a fused multiply-add, which rounds once.
    const auto sum = static_cast<float>(static_cast<double>(from[i]) * inverse + 8.5);
    q[i] = static_cast<std::uint8_t>(std::min(15, static_cast<int>(sum)));
  }
  for (int i = 0; i < 16; ++i) {
    to[2 + i] = static_cast<std::byte>(q[i] | q[i + 16] << 4);
  }
  return put_half(d, to);
}

struct Blocks {
  std::string_view type;
  std::size_t elements, bytes;
  void (*read)(const std::byte* from, float* to);
  bool (*write)(const float* from, std::byte* to);  // false: too large
};
constexpr Blocks kBlocks[] = {{"Q8_0", 32, 34, q8_0, to_q8_0},
                              {"Q4_0", 32, 18, q4_0, to_q4_0},
                              {"Q4_K", 256, 144, q4_k, nullptr}};

const Blocks& blocks_of(std::string_view type) {
  for (const Blocks& blocks : kBlocks) {
    if (blocks.type == type) return blocks;
  }
  throw Error(Fault::internal, "no blocks of type " + std::string(type));
}

}  // namespace

void dequantise(std::string_view type, const std::byte* from, std::span<float> to) {
  const Blocks& blocks = blocks_of(type);
  for (std::size_t i = 0; i < to.size(); i += blocks.elements, from += blocks.bytes) {
    blocks.read(from, to.data() + i);
  }
}

std::optional<std::size_t> quantise(std::string_view type, std::span<const float> from,
                                    std::byte* to) {
  const Blocks& blocks = blocks_of(type);
  for (std::size_t i = 0; i < from.size(); i += blocks.elements, to += blocks.bytes) {
    if (!blocks.write(from.data() + i, to)) return i + largest_of(from.data() + i);
  }
  return {};
}

}  // namespace quire

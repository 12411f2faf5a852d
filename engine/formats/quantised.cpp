#include "engine/formats/quantised.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>
#include <utility>

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

/// Of Q4_K's part, out of the 12 bytes of all.
std::pair<unsigned, unsigned> scale_and_minimum(const std::byte* packed, int part) {
  // The first four have 6 bits of a byte each; the others 4 bits, and 2 left over in the first.
  const unsigned at = byte_at(packed + part), beside = byte_at(packed + part + 4);
  if (part < 4) return {at & 63, beside & 63};
  return {(beside & 15) | byte_at(packed + part - 4) >> 6 << 4, beside >> 4 | at >> 6 << 4};
}

void q4_k(const std::byte* from, float* to) {
  const float d = half_at(from), minimum = half_at(from + 2);
  const std::byte* nibbles = from + 16;
  for (int part = 0; part < 8; ++part) {
    const auto [scale, low] = scale_and_minimum(from + 4, part);
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

/// The bits of a magnitude, which order as it does: integers compare in vectors, where the largest of
/// floats would wait for each comparison.
std::int32_t magnitude_bits(float value) {
  return std::bit_cast<std::int32_t>(value) & 0x7fffffff;
}
std::int32_t largest_bits(std::span<const float> block) {
  std::int32_t largest = 0;
  for (const float value : block) largest = std::max(largest, magnitude_bits(value));
  return largest;
}

/// The first element of the largest magnitude: what a block is scaled by.
std::size_t largest_of(std::span<const float> block) {
  const std::int32_t largest = largest_bits(block);
  std::size_t at = 0;
  while (at + 1 < block.size() && magnitude_bits(block[at]) != largest) ++at;
  return at;
}

/// 1/d, and 0 for what float16 takes as 0 anyway.
float inverse_of(float d) {
  const float inverse = 1.0f / d;
  return std::isfinite(inverse) ? inverse : 0.0f;
}

bool to_q8_0(const float* from, std::byte* to) {
  const float d = std::bit_cast<float>(largest_bits({from, 32})) / 127.0f;
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

void put_nibbles(const std::uint8_t* q, std::byte* to) {
  for (int i = 0; i < 16; ++i) to[i] = static_cast<std::byte>(q[i] | q[i + 16] << 4);
}

bool to_q4_0(const float* from, std::byte* to) {
  const float d = from[largest_of({from, 32})] / -8.0f;
  const float inverse = inverse_of(d);
  std::uint8_t q[32];
  for (int i = 0; i < 32; ++i) {
    // In double: llama.cpp's builds use a fused multiply-add, which rounds once.
    const auto sum = static_cast<float>(static_cast<double>(from[i]) * inverse + 8.5);
    q[i] = static_cast<std::uint8_t>(std::min(15, static_cast<int>(sum)));
  }
  put_nibbles(q, to + 2);
  return put_half(d, to);
}

/// Integers -8 … 7 that `per_unit` makes of a block.
void round_to_nibbles(const float* from, float per_unit, float* q) {
  for (int i = 0; i < 32; ++i) {
    constexpr float kNoFractions = 0x1.8p23f;  // ties to even
    const float scaled = std::min(std::max(per_unit * from[i], -8.0f), 7.0f);
    q[i] = (scaled + kNoFractions) - kNoFractions;
  }
}

struct Squares {
  float qx = 0.0f, qq = 0.0f;
  /// By how much d = qx/qq makes the squared error less than that of zeros.
  float gain() const { return qq > 0 ? qx * (qx / qq) : 0.0f; }
};

Squares squares_of(const float* x, const float* q) {
  float qx[8] = {}, qq[8] = {};  // sums of their own, for vectors
  for (int i = 0; i < 32; i += 8) {
    for (int lane = 0; lane < 8; ++lane) {
      qx[lane] += q[i + lane] * x[i + lane];
      qq[lane] += q[i + lane] * q[i + lane];
    }
  }
  Squares sums;
  for (int lane = 0; lane < 8; ++lane) {
    sums.qx += qx[lane];
    sums.qq += qq[lane];
  }
  return sums;
}

bool to_q4_0_closely(const float* from, std::byte* to) {
  // What the largest becomes; -8 alone is llama.cpp's. Twenty-three sizes of either sign leave no
  // less of int4's loss than these two.
  constexpr float kSizes[] = {-8.0f, -7.2f};
  const float largest = from[largest_of({from, 32})];
  float tries[2][32] = {};
  float *q = tries[0], *next = tries[1];  // the best, zeros to begin with, and what is tried
  Squares best;
  for (const float size : kSizes) {
    const float per_unit = size / largest;
    if (!std::isfinite(per_unit)) continue;  // zeros, or what float16 takes for them
    round_to_nibbles(from, per_unit, next);
    const Squares sums = squares_of(from, next);
    if (sums.gain() <= best.gain()) continue;
    best = sums;
    std::swap(q, next);
  }
  std::uint8_t codes[32];
  for (int i = 0; i < 32; ++i) codes[i] = static_cast<std::uint8_t>(static_cast<int>(q[i]) + 8);
  put_nibbles(codes, to + 2);
  return put_half(best.qq > 0 ? best.qx / best.qq : 0.0f, to);
}

/// Q4_K's parts of 32: integers 0 … 15, times a scale, less a minimum.
struct Part {
  float scale = 0.0f, minimum = 0.0f;  // both at least 0
  std::array<int, 32> q = {};
};

/// Ties to even: what is left of a mantissa without bits for fractions. Of what is within its range.
int nearest(float value) {
  constexpr float kInRange = 0x1p21f;
  const float shifted = std::clamp(value, -kInRange, kInRange) + 0x1.8p23f;
  return static_cast<int>(std::bit_cast<std::uint32_t>(shifted) & 0x7fffff) - 0x400000;
}

/// The best of 22 scales: the plain one, and those for which the least squares of rounding to a
/// little less or more than the full range of integers. `weights` of the errors.
Part fit(const float* x, const float* weights) {
  constexpr int kMost = 15, kTries = 20;
  float low = x[0], high = x[0], sum_w = weights[0], sum_x = sum_w * x[0];
  for (int i = 1; i < 32; ++i) {
    low = std::min(low, x[i]);
    high = std::max(high, x[i]);
    sum_w += weights[i];
    sum_x += weights[i] * x[i];
  }
  low = std::min(low, 0.0f);
  if (high == low) return {.minimum = -low};
  float offset = low;  // the best so far, which the next attempts begin from
  std::array<int, 32> q{};
  const auto set_integers = [&](float per_unit) {
    for (std::size_t i = 0; i < q.size(); ++i) {
      q[i] = std::clamp(nearest(per_unit * (x[i] - offset)), 0, kMost);
    }
  };
  const auto error_of = [&](float step, float least) {
    float error = 0.0f;
    for (std::size_t i = 0; i < q.size(); ++i) {
      const float difference = step * static_cast<float>(q[i]) + least - x[i];
      error += weights[i] * (difference * difference);
    }
    return error;
  };
  const float plain = kMost / (high - low);
  set_integers(plain);
  float scale = 1 / plain;
  std::array<int, 32> best_q = q;
  float best = error_of(scale, offset);
  for (int attempt = 0; attempt <= kTries; ++attempt) {
    set_integers((-1.0f + 0.1f * static_cast<float>(attempt) + kMost) / (high - offset));
    float sum_q = 0.0f, sum_q2 = 0.0f, sum_xq = 0.0f;
    for (std::size_t i = 0; i < q.size(); ++i) {
      const auto integer = static_cast<float>(q[i]);
      sum_q += weights[i] * integer;
      sum_q2 += weights[i] * integer * integer;
      sum_xq += weights[i] * integer * x[i];
    }
    const float determinant = sum_w * sum_q2 - sum_q * sum_q;
    if (determinant <= 0) continue;
    float new_scale = (sum_w * sum_xq - sum_x * sum_q) / determinant;
    float new_offset = (sum_q2 * sum_x - sum_q * sum_xq) / determinant;
    if (new_offset > 0) {
      new_offset = 0;
      new_scale = sum_xq / sum_q2;
    }
    const float error = error_of(new_scale, new_offset);
    if (error >= best) continue;
    best = error;
    best_q = q;
    scale = new_scale;
    offset = new_offset;
  }
  return {scale, -offset, best_q};
}

bool to_q4_k(const float* from, std::byte* to) {
  // 15·63 times a float16 is below it, and its square can be summed up.
  if (std::abs(from[largest_of({from, 256})]) > 1e8f) return false;
  Part parts[8];
  float scale = 0.0f, minimum = 0.0f;  // the largest
  for (int part = 0; part < 8; ++part) {
    const float* x = from + part * 32;
    float squares = 0.0f, weights[32];
    for (int i = 0; i < 32; ++i) squares += x[i] * x[i];
    for (int i = 0; i < 32; ++i) weights[i] = std::sqrt(squares / 32) + std::abs(x[i]);
    parts[part] = fit(x, weights);
    scale = std::max(scale, parts[part].scale);
    minimum = std::max(minimum, parts[part].minimum);
  }
  constexpr float kMost = 63.0f;  // of 6 bits
  const auto packed = [](float value, float largest) {
    const float per_unit = largest > 0 ? kMost / largest : 0.0f;
    return static_cast<unsigned>(std::min(nearest(per_unit * value), 63));
  };
  unsigned bytes[12] = {};
  for (std::size_t part = 0; part < 8; ++part) {
    const unsigned s = packed(parts[part].scale, scale), m = packed(parts[part].minimum, minimum);
    if (part < 4) {
      bytes[part] = s;
      bytes[part + 4] = m;
    } else {
      bytes[part + 4] = (s & 15) | (m & 15) << 4;
      bytes[part - 4] |= s >> 4 << 6;
      bytes[part] |= m >> 4 << 6;
    }
  }
  const bool fits = put_half(scale / kMost, to) && put_half(minimum / kMost, to + 2);
  for (std::size_t i = 0; i < 12; ++i) to[4 + i] = static_cast<std::byte>(bytes[i]);
  std::array<int, 256> q{};
  for (int part = 0; part < 8; ++part) {
    const auto [s, m] = scale_and_minimum(to + 4, part);
    const float d = half_at(to) * static_cast<float>(s);
    const float offset = half_at(to + 2) * static_cast<float>(m);
    for (std::size_t i = 0; i < 32; ++i) {
      const std::size_t at = static_cast<std::size_t>(part) * 32 + i;
      // Where the scale became 0 they say nothing.
      q[at] = d == 0.0f ? parts[part].q[i] : std::clamp(nearest((from[at] + offset) / d), 0, 15);
    }
  }
  for (std::size_t i = 0; i < 128; ++i) {
    const std::size_t at = i / 32 * 64 + i % 32;
    to[16 + i] = static_cast<std::byte>(q[at] | q[at + 32] << 4);
  }
  return fits;
}

struct Blocks {
  std::string_view type;
  std::size_t elements, bytes;
  void (*read)(const std::byte* from, float* to);
  bool (*write)(const float* from, std::byte* to);  // false: too large
};
constexpr Blocks kBlocks[] = {{"Q8_0", 32, 34, q8_0, to_q8_0},
                              {"Q4_0", 32, 18, q4_0, to_q4_0},
                              {"Q4_K", 256, 144, q4_k, to_q4_k}};

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

std::optional<std::size_t> quantise_q4_0_closely(std::span<const float> from, std::byte* to) {
  for (std::size_t i = 0; i < from.size(); i += 32, to += 18) {
    if (!to_q4_0_closely(from.data() + i, to)) return i + largest_of(from.subspan(i, 32));
  }
  return {};
}

std::optional<std::size_t> quantise(std::string_view type, std::span<const float> from,
                                    std::byte* to) {
  const Blocks& blocks = blocks_of(type);
  for (std::size_t i = 0; i < from.size(); i += blocks.elements, to += blocks.bytes) {
    if (!blocks.write(from.data() + i, to)) return i + largest_of(from.subspan(i, blocks.elements));
  }
  return {};
}

}  // namespace quire

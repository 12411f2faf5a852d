#include "engine/formats/quantised.h"

#include <cstdint>
#include <cstring>

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

struct Blocks {
  std::string_view type;
  std::size_t elements, bytes;
  void (*read)(const std::byte* from, float* to);
};
constexpr Blocks kBlocks[] = {
    {"Q8_0", 32, 34, q8_0}, {"Q4_0", 32, 18, q4_0}, {"Q4_K", 256, 144, q4_k}};

}  // namespace

void dequantise(std::string_view type, const std::byte* from, std::span<float> to) {
  for (const Blocks& blocks : kBlocks) {
    if (blocks.type != type) continue;
    for (std::size_t i = 0; i < to.size(); i += blocks.elements, from += blocks.bytes) {
      blocks.read(from, to.data() + i);
    }
    return;
  }
  throw Error(Fault::internal, "no blocks of type " + std::string(type));
}

}  // namespace quire

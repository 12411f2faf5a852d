#include "engine/model/elements.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <string>

#include "base/error.h"

namespace quire {
namespace {

template <class T>
T load(const std::byte* from, std::int64_t index) {
  T value;
  std::memcpy(&value, from + index * static_cast<std::int64_t>(sizeof value), sizeof value);
  return value;
}

// The exponent of NaN and infinity is all ones: without its sign, the number plus one unit of the
// exponent reaches the sign bit. One add and one or per element, no branch.
template <class Bits>
bool any_not_finite(const std::byte* from, std::int64_t count, Bits exponent_unit) {
  constexpr Bits kSign = static_cast<Bits>(Bits{1} << (8 * sizeof(Bits) - 1));
  Bits seen = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    const Bits magnitude = load<Bits>(from, i) & static_cast<Bits>(~kSign);
    seen = static_cast<Bits>(seen | static_cast<Bits>(magnitude + exponent_unit));
  }
  return (seen & kSign) != 0;
}

bool any_not_finite(const std::byte* from, DType dtype, std::int64_t count) {
  switch (dtype) {
    case DType::f32:
      return any_not_finite<std::uint32_t>(from, count, 0x00800000u);
    case DType::f16:
      return any_not_finite<std::uint16_t>(from, count, 0x0400u);
    case DType::bf16:
      return any_not_finite<std::uint16_t>(from, count, 0x0080u);
    case DType::i32:
      return false;
  }
  return false;
}

[[noreturn]] void refuse(DType dtype) {
  throw Error(Fault::internal,
              std::string("elements of type ") + name_of(dtype) + " are not weights");
}

}  // namespace

std::optional<std::int64_t> find_not_finite(const std::byte* from, DType dtype,
                                            std::int64_t count) {
  constexpr std::int64_t kBlock = 4096;  // elements, so that a hit is looked for within the cache
  const std::int64_t width = static_cast<std::int64_t>(size_of(dtype));
  for (std::int64_t first = 0; first < count; first += kBlock) {
    const std::int64_t part = std::min(kBlock, count - first);
    if (!any_not_finite(from + first * width, dtype, part)) continue;
    for (std::int64_t i = first;; ++i) {
      if (any_not_finite(from + i * width, dtype, 1)) return i;
    }
  }
  return std::nullopt;
}

float element(const std::byte* from, DType dtype, std::int64_t index) {
  switch (dtype) {
    case DType::f32:
      return load<float>(from, index);
    case DType::f16:
      return to_float(load<Half>(from, index));
    case DType::bf16:
      return to_float(load<BFloat16>(from, index));
    case DType::i32:
      break;
  }
  refuse(dtype);
}

void read_elements(const std::byte* from, DType dtype, std::span<float> to) {
  const std::int64_t count = static_cast<std::int64_t>(to.size());
  float* out = to.data();
  switch (dtype) {
    case DType::f32:
      std::memcpy(out, from, to.size_bytes());
      return;
    case DType::f16:
      // Read with float's exponent bias, then scaled by 2^(127 - 15): exact, subnormals too.
      for (std::int64_t i = 0; i < count; ++i) {
        const std::uint32_t bits = load<std::uint16_t>(from, i);
        const float scaled = std::bit_cast<float>((bits & 0x7fffu) << 13) * 0x1p112f;
        out[i] =
            std::bit_cast<float>(std::bit_cast<std::uint32_t>(scaled) | (bits & 0x8000u) << 16);
      }
      return;
    case DType::bf16:
      for (std::int64_t i = 0; i < count; ++i) {
        out[i] = std::bit_cast<float>(std::uint32_t{load<std::uint16_t>(from, i)} << 16);
      }
      return;
    case DType::i32:
      break;
  }
  refuse(dtype);
}

void write_elements(std::span<const float> from, DType dtype, std::byte* to) {
  switch (dtype) {
    case DType::f32:
      std::memcpy(to, from.data(), from.size_bytes());
      return;
    case DType::f16:
      for (std::size_t i = 0; i < from.size(); ++i) {
        const Half half = to_half(from[i]);
        std::memcpy(to + i * sizeof half, &half, sizeof half);
      }
      return;
    case DType::bf16:
      for (std::size_t i = 0; i < from.size(); ++i) {
        const BFloat16 half = to_bfloat16(from[i]);
        std::memcpy(to + i * sizeof half, &half, sizeof half);
      }
      return;
    case DType::i32:
      break;
  }
  refuse(dtype);
}

}  // namespace quire

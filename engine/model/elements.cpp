#include "engine/model/elements.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <type_traits>

namespace quire {
namespace {

template <class T>
T load(const std::byte* from, std::size_t index) {
  T value;
  std::memcpy(&value, from + index * sizeof value, sizeof value);
  return value;
}

// The exponent of NaN and infinity is all ones: without its sign, the number plus one unit of the
// exponent reaches the sign bit. One add and one or per element, no branch.
template <class Bits>
bool any_not_finite(const std::byte* from, std::size_t count, Bits exponent_unit) {
  constexpr Bits kSign = static_cast<Bits>(Bits{1} << (8 * sizeof(Bits) - 1));
  Bits seen = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const Bits magnitude = load<Bits>(from, i) & static_cast<Bits>(~kSign);
    seen = static_cast<Bits>(seen | static_cast<Bits>(magnitude + exponent_unit));
  }
  return (seen & kSign) != 0;
}

bool any_not_finite(const std::byte* from, DType dtype, std::size_t count) {
  if (dtype == DType::i32) return false;
  if (dtype == DType::f32) return any_not_finite<std::uint32_t>(from, count, 0x00800000u);
  return any_not_finite<std::uint16_t>(from, count, dtype == DType::f16 ? 0x0400u : 0x0080u);
}

template <class T>
T narrowed(float value) {
  if constexpr (std::is_same_v<T, Half>) {
    return to_half(value);
  } else if constexpr (std::is_same_v<T, BFloat16>) {
    return to_bfloat16(value);
  } else {
    return value;
  }
}

}  // namespace

std::optional<std::int64_t> find_not_finite(const std::byte* from, DType dtype,
                                            std::int64_t count) {
  constexpr std::int64_t kBlock = 4096;  // elements, so that a hit is looked for within the cache
  const std::int64_t width = size_of(dtype);
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
  float value = 0.0f;
  dispatch(dtype, [&]<class T>() { value = to_float(load<T>(from, index)); });
  return value;
}

void read_elements(const std::byte* from, DType dtype, std::span<float> to) {
  if (dtype == DType::f16) {
    // Read with float's exponent bias, then scaled by 2^(127 - 15): exact, subnormals too.
    for (std::size_t i = 0; i < to.size(); ++i) {
      const std::uint32_t bits = load<std::uint16_t>(from, i);
      const float scaled = std::bit_cast<float>((bits & 0x7fffu) << 13) * 0x1p112f;
      to[i] = std::bit_cast<float>(std::bit_cast<std::uint32_t>(scaled) | (bits & 0x8000u) << 16);
    }
    return;
  }
  dispatch(dtype, [&]<class T>() {
    for (std::size_t i = 0; i < to.size(); ++i) to[i] = to_float(load<T>(from, i));
  });
}

void write_elements(std::span<const float> from, DType dtype, std::byte* to) {
  dispatch(dtype, [&]<class T>() {
    for (std::size_t i = 0; i < from.size(); ++i) {
      const T element = narrowed<T>(from[i]);
      std::memcpy(to + i * sizeof element, &element, sizeof element);
    }
  });
}

std::vector<float> download(Device& device, const ConstView& from) {
  std::vector<std::byte> bytes(from.size_bytes());
  device.copy_to_host(bytes.data(), from.bytes(), bytes.size());
  std::vector<float> values(from.count());
  read_elements(bytes.data(), from.dtype(), values);
  return values;
}

void upload(Device& device, std::span<const float> from, const View& to) {
  std::vector<std::byte> bytes(to.size_bytes());
  write_elements(from, to.dtype(), bytes.data());
  device.copy_to_device(to.bytes(), bytes.data(), bytes.size());
  device.synchronize();  // `bytes` goes out of scope
}

}  // namespace quire

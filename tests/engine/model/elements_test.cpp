#include "engine/model/elements.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <vector>

#include "tests/support/catch.h"

using quire::DType;

namespace {

template <class T>
const std::byte* bytes(const std::vector<T>& values) {
  return reinterpret_cast<const std::byte*>(values.data());
}

}  // namespace

TEST_CASE("every half and bfloat16 is read, written and told finite as the scalar conversions do") {
  for (const DType dtype : {DType::f16, DType::bf16}) {
    std::vector<std::uint16_t> all(1 << 16);
    for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<std::uint16_t>(i);
    std::vector<float> read(all.size());
    quire::read_elements(bytes(all), dtype, read);
    std::vector<std::uint16_t> written(all.size());
    quire::write_elements(read, dtype, reinterpret_cast<std::byte*>(written.data()));
    for (std::size_t i = 0; i < all.size(); ++i) {
      const float value = dtype == DType::f16 ? quire::to_float(quire::Half{all[i]})
                                              : quire::to_float(quire::BFloat16{all[i]});
      const bool told_finite = !quire::find_not_finite(bytes(all) + 2 * i, dtype, 1).has_value();
      if (told_finite != std::isfinite(value)) FAIL(name_of(dtype) << " " << i);
      if (!told_finite) continue;
      if (std::bit_cast<std::uint32_t>(read[i]) != std::bit_cast<std::uint32_t>(value) ||
          written[i] != all[i]) {
        FAIL(name_of(dtype) << " " << i << ": " << read[i] << " instead of " << value);
      }
    }
  }
}

TEST_CASE("the first number that is not finite is found wherever it lies, unaligned too") {
  for (const std::int64_t count : {1, 7, 4095, 4096, 4097, 20'000}) {
    std::vector<std::byte> storage(static_cast<std::size_t>(count) * 4 + 3);
    for (std::size_t shift = 0; shift < 4; ++shift) {
      std::byte* data = storage.data() + shift;
      const auto put = [&](std::int64_t index, std::uint32_t bits) {
        std::memcpy(data + 4 * index, &bits, sizeof bits);
      };
      for (std::int64_t i = 0; i < count; ++i)
        put(i, i % 2 == 0 ? 0xff7fffffu : 0x7f7fffffu);  // ±max
      CHECK_FALSE(quire::find_not_finite(data, DType::f32, count).has_value());
      put(count - 1, 0x7f800001u);  // NaN
      CHECK(quire::find_not_finite(data, DType::f32, count) == count - 1);
      put(count / 2, 0xff800000u);  // -infinity
      CHECK(quire::find_not_finite(data, DType::f32, count) == count / 2);
      CHECK(quire::element(data, DType::f32, count / 2) == -INFINITY);
    }
  }
  CHECK_FALSE(quire::find_not_finite(nullptr, DType::f32, 0).has_value());
}

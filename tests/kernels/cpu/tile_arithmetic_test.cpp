// What a product of AMX's tiles is, by hand and beside this processor's own multiply-adds.
#include "kernels/cpu/tile_arithmetic.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>

#include "tests/support/catch.h"
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace quire::cpu::tile {
namespace {

std::uint32_t bits(float x) {
  return std::bit_cast<std::uint32_t>(x);
}
/// Of a number that bfloat16 has.
std::uint16_t narrow(float x) {
  return static_cast<std::uint16_t>(bits(x) >> 16);
}

TEST_CASE("a multiply-add of tiles rounds once, to the nearest, ties to even") {
  CHECK(multiply_add(1.0f, 1.0f, 0x1p24f) == 0x1p24f);  // half of the last bit
  CHECK(multiply_add(1.0f, 1.0f, 0x1p24f + 2) == 0x1p24f + 4);
  CHECK(multiply_add(1.0078125f, 1.0f, 0x1p24f) == 0x1p24f + 2);  // just above
  CHECK(multiply_add(1.0078125f, -1.0f, 0x1p25f) ==
        0x1p25f - 2);  // below it, bits are half as large
  // The product has 15 bits: rounded before the sum, the last one would be lost.
  CHECK(multiply_add(1.0078125f, 1.0078125f, -0x1.04p0f) == 0x1p-14f);
  CHECK(multiply_add(0x1p100f, 0x1p27f, 0x1p-126f) == 0x1p127f);
  CHECK(multiply_add(0x1p100f, 0x1p28f, 0.0f) == std::numeric_limits<float>::infinity());
}

TEST_CASE("in tiles subnormal numbers are zero, as operands and as results") {
  CHECK(bits(widened(0x0001)) == 0);
  CHECK(bits(widened(0x807f)) == 0x80000000u);
  CHECK(bits(widened(0x0080)) == bits(0x1p-126f));
  CHECK(bits(multiply_add(0x1p-100f, 0x1p-27f, 0.0f)) == 0);
  CHECK(bits(multiply_add(-0x1p-100f, 0x1p-27f, 0.0f)) == 0x80000000u);
  CHECK(multiply_add(0x1p-100f, 0x1p-26f, 0.0f) == 0x1p-126f);
  // What has 24 bits below 2^-126 is too small; what rounds up to 2^-126 is not.
  CHECK(bits(multiply_add(-0x1p-100f, 0x1p-50f, 0x1p-126f)) == 0);
  CHECK(multiply_add(-0x1p-100f, 0x1p-51f, 0x1p-126f) == 0x1p-126f);
  CHECK(bits(add(0x1.8p-126f, -0x1p-126f)) == 0);
  CHECK(bits(add(0x1p-130f, 0x1p-130f)) == 0);
  CHECK(add(0x1p-127f, 0x1p-126f) == 0x1p-126f);
}

TEST_CASE("in tiles what is not finite goes through") {
  const float infinity = std::numeric_limits<float>::infinity();
  CHECK(std::isnan(multiply_add(infinity, 0.0f, 1.0f)));
  CHECK(std::isnan(multiply_add(infinity, 1.0f, -infinity)));
  CHECK(std::isnan(multiply_add(1.0f, 1.0f, std::nanf(""))));
  CHECK(std::isnan(widened(0x7fc0)));
  CHECK(std::isnan(add(infinity, -infinity)));
  CHECK(multiply_add(-1.0f, infinity, 0.0f) == -infinity);
}

TEST_CASE("a step of tiles has two chains, which are added before the sum") {
  std::uint16_t a[32] = {}, b[64] = {};
  const auto set = [&](int k, float x) {
    a[k] = narrow(x);
    b[2 * k] = narrow(1.0f);
  };
  set(0, 1.0f);
  set(1, 1.0f);
  CHECK(with_step(0x1p24f, a, b, 2) == 0x1p24f + 2);  // one after the other, both would be lost
  // 2^24 + 1 is 2^24 in the even chain, and the next 1 is lost, too; 1 - 1 is none in the odd one.
  set(0, 0x1p24f);
  set(2, 1.0f);
  set(30, 1.0f);
  set(31, -1.0f);
  CHECK(with_step(0.0f, a, b, 2) == 0x1p24f);
  // In order of k: the small one first is kept.
  set(0, 1.0f);
  set(2, 1.0f);
  set(30, 0x1p24f);
  CHECK(with_step(0.0f, a, b, 2) == 0x1p24f + 2);
  const std::uint16_t zeros[32] = {};
  CHECK(bits(with_step(0x1p-130f, zeros, zeros, 1)) == 0);
}

#if defined(__x86_64__)
__attribute__((target("fma"))) float by_processor(float a, float b, float c) {
  return _mm_cvtss_f32(_mm_fmadd_ss(_mm_set_ss(a), _mm_set_ss(b), _mm_set_ss(c)));
}
float sum_by_processor(float a, float b) {
  return _mm_cvtss_f32(_mm_add_ss(_mm_set_ss(a), _mm_set_ss(b)));
}

TEST_CASE("tiles' arithmetic is the processor's with subnormal numbers as zero") {
  if (!__builtin_cpu_supports("fma")) {
    WARN("SKIPPED: this processor has no fused multiply-add");
    return;
  }
  std::mt19937 random(7);
  const unsigned before = _mm_getcsr();
  std::int64_t wrong = 0;
  for (int i = 0; i < 400'000; ++i) {
    const auto number = [&](std::uint32_t exponent) {
      return std::bit_cast<float>((static_cast<std::uint32_t>(random()) & 0x807fffffu) | exponent
                                                                                             << 23);
    };
    // Products of every size beside sums that are near them, or anywhere.
    const auto first = static_cast<std::uint32_t>(1 + random() % 254),
               second = static_cast<std::uint32_t>(1 + random() % 254);
    const int near = static_cast<int>(first + second) - 127 + static_cast<int>(random() % 60) - 30;
    const auto third = i % 4 == 0
                           ? static_cast<std::uint32_t>(1 + random() % 3)  // about the smallest
                           : static_cast<std::uint32_t>(std::clamp(near, 0, 254));
    const float a = std::bit_cast<float>(bits(number(first)) & 0xffff0000u);
    const float b = std::bit_cast<float>(bits(number(second)) & 0xffff0000u);
    const float c = flushed(number(third));
    _mm_setcsr(before | 0x8040);
    // Volatile, or the compiler might compute before the mode is set.
    const volatile float from_a = a, from_b = b, from_c = c;
    const volatile float fused = by_processor(from_a, from_b, from_c);
    const volatile float sum = sum_by_processor(fused, from_c);
    _mm_setcsr(before);
    const float got = multiply_add(a, b, c);
    if (bits(got) != bits(fused) && !(std::isnan(got) && std::isnan(fused))) ++wrong;
    const float both = add(got, c);
    if (bits(both) != bits(sum) && !(std::isnan(both) && std::isnan(sum))) ++wrong;
  }
  CHECK(wrong == 0);
}
#endif

}  // namespace
}  // namespace quire::cpu::tile

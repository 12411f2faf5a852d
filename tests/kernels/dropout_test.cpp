#include <cmath>

#include "base/random.h"
#include "kernels/reference/formulas.h"
#include "tests/support/cases.h"
#include "tests/support/catch.h"
#include "tests/support/compare.h"
#include "tests/support/data.h"
#include "tests/support/devices.h"
#include "tests/support/guarded.h"
#include "tests/support/half_types.h"

using namespace quire;
using namespace quire::test;

namespace {

using Block = std::array<std::uint32_t, 4>;

std::vector<float> run(const TestDevice& device, const std::vector<float>& x, float p,
                       RandomKey key, DType dtype = DType::f32) {
  Stage stage(device.device, join("dropout", device.name, name_of(dtype), x.size(), p),
              static_cast<std::int64_t>(x.size() % 2));
  const auto count = static_cast<std::int64_t>(x.size());
  Guarded& out = stage.output({count}, dtype);
  device.device.dropout({.out = out, .x = stage.input(x, {count}, dtype), .p = p, .key = key});
  Guarded& both = stage.in_out(x, {count}, dtype);
  device.device.dropout({.out = both, .x = both, .p = p, .key = key});
  compare_bits(stage.what() + " in place", both.floats(), out.floats());
  return out.floats();
}

}  // namespace

// The vectors that the authors of Philox publish with Random123.
TEST_CASE("random_block gives the known answers of Philox4x32-10") {
  CHECK(random_block({0, 0}, 0) == Block{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  CHECK(random_block({~0ull, ~0ull}, ~0ull) ==
        Block{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
  CHECK(random_block({0x299f31d0a4093822, 0x0370734413198a2e}, 0x85a308d3243f6a88) ==
        Block{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
}

TEST_CASE("numbers of a stream are those of its blocks, and uniforms lie between 0 and 1") {
  constexpr RandomKey key{42, 7};
  for (std::uint64_t i = 0; i < 1000; ++i) {
    CHECK(random_bits(key, i) == random_block(key, i / 4)[i % 4]);
    const float u = random_uniform(key, i);
    CHECK((u >= 0.0f && u < 1.0f));
  }
  CHECK(random_bits({42, 7}, 0) != random_bits({42, 8}, 0));
  CHECK(random_bits({42, 7}, 0) != random_bits({43, 7}, 0));
}

TEST_CASE("dropout drops what the stream says, on every device alike") {
  for (const TestDevice& device : devices_under_test()) {
    for (const DType dtype : device.types) {
      for (const std::int64_t count : cases::kCounts) {
        for (const float p : {0.0f, 0.1f, 0.5f, 0.9f}) {
          const RandomKey key{1234567890123, static_cast<std::uint64_t>(count)};
          const std::vector<float> x = rounded_to(dtype, normal(count, 3));
          Doubles want = widened(x);
          for (std::size_t i = 0; i < want.size(); ++i) {
            want[i] *= random_bits(key, i) >= dropout_threshold(p) ? 1.0 / (1.0 - p) : 0.0;
          }
          // 1 - p, its inverse and the product each round once; a dropped element is exactly zero.
          compare(join("dropout", device.name, name_of(dtype), count, p),
                  run(device, x, p, key, dtype), want, [&](std::size_t i) {
                    if (p == 0.0f || want[i] == 0.0) return 0.0;
                    return stored(dtype, want[i], 2.0 * kEps * std::abs(want[i]));
                  });
        }
      }
    }
  }
}

TEST_CASE("dropout keeps its share and its mean") {
  constexpr std::int64_t kCount = 200'000;
  for (const TestDevice& device : devices_under_test()) {
    for (const float p : {0.1f, 0.5f}) {
      const std::vector<float> out = run(device, std::vector<float>(kCount, 1.0f), p, {9, 9});
      double kept = 0.0, sum = 0.0;
      for (const float value : out) {
        kept += value != 0.0f;
        sum += value;
      }
      const double deviation = std::sqrt(kCount * p * (1.0 - p));
      CHECK(std::abs(kept - kCount * (1.0 - p)) < 5.0 * deviation);
      CHECK(std::abs(sum - kCount) < 5.0 * deviation / (1.0 - p));
    }
  }
}

TEST_CASE("dropout does not depend on the number of threads") {
  const std::vector<float> x = normal(70001, 4);
  const std::vector<float> want = run(cpu_with_threads().front(), x, 0.2f, {5, 6});
  for (const TestDevice& device : cpu_with_threads()) {
    compare_bits("dropout " + device.name, run(device, x, 0.2f, {5, 6}), want);
  }
}

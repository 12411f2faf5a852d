// A weight in the other layout: every element in its place, bit for bit.
#include "tests/support/catch.h"
#include "tests/support/compare.h"
#include "tests/support/data.h"
#include "tests/support/devices.h"
#include "tests/support/half_types.h"
#include "tests/support/products.h"

using namespace quire;
using namespace quire::test;

TEST_CASE("transpose moves every element of any type, and no other") {
  for (const TestDevice& device : devices_under_test()) {
    for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
      std::int64_t shift = 0;
      for (const auto& [K, N] : {std::pair<std::int64_t, std::int64_t>{1, 1},
                                 {1, 70},
                                 {33, 1},
                                 {32, 32},
                                 {31, 65},
                                 {64, 97},
                                 {257, 40}}) {
        const std::vector<float> in = rounded_to(dtype, normal(K * N, 7));
        Stage stage(device.device, join("transpose", device.name, K, N), shift ^= 1);
        Guarded& out = stage.output({N, K}, dtype);
        device.device.transpose({.out = out, .in = stage.input(in, {K, N}, dtype)});
        compare_bits(join(stage.what(), quire::name_of(dtype)), out.floats(), flipped(in, K, N));
      }
    }
  }
}

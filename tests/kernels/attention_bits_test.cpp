// 16-bit attention twice over the same operands. Each gradient has one block that sums it, so bits
// that differ are a race: compute-sanitizer watches this test on a card (scripts/gpu.sh), which is
// why its shapes are two, and small.
#include "tests/support/attention_bounds.h"
#include "tests/support/attention_inputs.h"
#include "tests/support/cases.h"
#include "tests/support/catch.h"
#include "tests/support/compare.h"

using namespace quire;
using namespace quire::test;

TEST_CASE("16-bit attention gives the same bits each time, forward and backward") {
  // Two tiles of keys with one row in the second, in heads of 64; heads of 128 have other tiles.
  for (const auto [B, T, H, D] : {cases::Attention{1, 65, 1, 64}, {1, 34, 1, 128}}) {
    for (const TestDevice& device : devices_under_test()) {
      for (const DType dtype : device.types) {
        if (dtype == DType::f32) continue;
        const AttentionInput in = attention_input(B, T, H, D, Mask::packed, 0.25f, dtype);
        const std::string what = join("attention", device.name, quire::name_of(dtype), "T", T, D);
        const AttentionResult once = run_attention(device, in), again = run_attention(device, in);
        const reference::Attention want = reference::attention(in.shape(), widened(in.qkv));
        compare(what + " out", once.out, want.out, bounds_of(in, want).out);
        compare_bits(what + " out", again.out, once.out);
        compare_bits(what + " lse", again.lse, once.lse);
        const std::vector<float> d_out = rounded_to(dtype, normal(B * T * H * D, 62));
        compare_bits(what + " d_qkv", run_attention_backward(device, in, once, d_out),
                     run_attention_backward(device, in, once, d_out));
      }
    }
  }
}

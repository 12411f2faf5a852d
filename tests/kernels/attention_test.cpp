#include <algorithm>
#include <cmath>

#include "kernels/reference/formulas.h"
#include "tests/support/attention_bounds.h"
#include "tests/support/attention_inputs.h"
#include "tests/support/cases.h"
#include "tests/support/catch.h"
#include "tests/support/compare.h"
#include "tests/support/data.h"
#include "tests/support/devices.h"
#include "tests/support/guarded.h"

using namespace quire;
using namespace quire::test;

namespace {

/// As above; d_score = scale·p·(d_p - mean) has the errors of p, of the dot products d_p and mean,
/// and each gradient is a sum of up to T of them. lse and out are inputs here. A 16-bit type rounds
/// each p and each p·(d_p - mean), and the gradients.
Doubles backward_bounds(const AttentionInput& in, const AttentionResult& forward,
                        const std::vector<float>& d_out, const Doubles& want) {
  const std::int64_t C = in.C(), D = in.D;
  const Doubles qkv = widened(in.qkv), out = widened(forward.out), grad = widened(d_out);
  const double width = static_cast<double>(D) + 4.0, length = static_cast<double>(in.T) + 8.0;
  Doubles bounds(qkv.size());
  for_each_query(in, [&](std::int64_t b, std::int64_t h, std::int64_t t, std::int64_t first) {
    const std::int64_t row = (b * in.T + t) * C + h * D;
    const std::int64_t query = (b * in.T + t) * 3 * C + h * D;
    const double lse = forward.lse[(b * in.H + h) * in.T + t];
    const double mean = std::abs(dot(&grad[row], &out[row], D));
    const double size_mean = size_of_dot(&grad[row], &out[row], D);
    for (std::int64_t k = first; k <= t; ++k) {
      const std::int64_t key = (b * in.T + k) * 3 * C + C + h * D, value = key + C;
      const double factor = in.factor(b, h, t, k);
      const double score = in.scale * dot(&qkv[query], &qkv[key], D);
      const double p = std::exp(score - lse);
      const double of_p =
          width * kEps * std::abs(in.scale) * size_of_dot(&qkv[query], &qkv[key], D) +
          4.0 * kEps * (std::abs(score) + std::abs(lse)) + 8.0 * kEps;
      const double d_p = factor * std::abs(dot(&grad[row], &qkv[value], D));
      const double size_d_p = factor * size_of_dot(&grad[row], &qkv[value], D);
      const double of_d_score = std::abs(in.scale) * p *
                                    (of_p * (d_p + mean) + width * kEps * (size_d_p + size_mean) +
                                     length * kEps * (d_p + mean)) +
                                std::abs(in.scale) * rounding(in.dtype, p * (d_p + mean));
      for (std::int64_t d = 0; d < D; ++d) {
        bounds[query + d] += of_d_score * std::abs(qkv[key + d]);
        bounds[key + d] += of_d_score * std::abs(qkv[query + d]);
        bounds[value + d] +=
            factor * std::abs(grad[row + d]) * (p * (of_p + length * kEps) + rounding(in.dtype, p));
      }
    }
  });
  for (std::size_t i = 0; i < bounds.size(); ++i) {
    bounds[i] += rounding(in.dtype, std::abs(want[i]) + bounds[i]);
  }
  return bounds;
}

/// One shape, forward and backward.
void check_attention(const TestDevice& device, const AttentionInput& in, Mask mask,
                     std::int64_t shift) {
  const std::string what =
      join("attention", device.name, quire::name_of(in.dtype), name_of(mask), "dropout", in.dropout,
           "B", in.B, "T", in.T, "H", in.H, "D", in.D, "shift", shift);
  const reference::Attention want = reference::attention(in.shape(), widened(in.qkv));
  const ForwardBounds bounds = bounds_of(in, want);
  const AttentionResult got = run_attention(device, in, shift);
  compare(what + " out", got.out, want.out, bounds.out);
  compare(what + " lse", got.lse, want.lse, bounds.lse);

  const std::vector<float> d_out = rounded_to(in.dtype, normal(in.B * in.T * in.C(), 62));
  const Doubles want_back = reference::attention_gradients(
      in.shape(), widened(d_out), widened(got.out), widened(got.lse), widened(in.qkv));
  compare(what + " d_qkv", run_attention_backward(device, in, got, d_out, shift), want_back,
          backward_bounds(in, got, d_out, want_back));
}

}  // namespace

TEST_CASE("attention agrees with its formula under every mask, forward and backward") {
  for (const TestDevice& device : devices_under_test()) {
    std::int64_t shift = 0;
    for (const auto [B, T, H, D] : cases::kAttention) {
      for (const Mask mask : kMasks) {
        for (const float dropout : {0.0f, 0.25f}) {
          // Dropout under a mask adds nothing that each alone does not show, but for short rows.
          if (dropout > 0.0f && mask != Mask::none && T > 33) continue;
          check_attention(device, attention_input(B, T, H, D, mask, dropout), mask, shift);
          shift ^= 1;
        }
      }
    }
  }
}

TEST_CASE("attention agrees with its formula in 16 bits") {
  for (const TestDevice& device : devices_under_test()) {
    int number = 0;
    for (const DType dtype : device.types) {
      if (dtype == DType::f32) continue;
      for (const auto [B, T, H, D] : cases::kAttentionTiles) {
        const Mask mask = kMasks[number % 3];
        const float dropout = number % 2 == 0 ? 0.0f : 0.25f;
        check_attention(device, attention_input(B, T, H, D, mask, dropout, dtype), mask, 0);
        ++number;
      }
      AttentionInput blind = attention_input(1, 150, 1, 64, Mask::none, 0.0f, dtype);
      blind.first_key.assign(150, 135);  // a whole tile of queries that see nothing
      check_attention(device, blind, Mask::left_padding, 0);
      // Views that are not aligned, and heads that are not whole steps of 16 bytes, take another
      // path than those above.
      for (const auto [B, T, H, D] :
           {cases::Attention{2, 33, 2, 8}, {1, 70, 1, 64}, {1, 9, 3, 9}, {2, 17, 1, 136}}) {
        for (const float dropout : {0.0f, 0.25f}) {
          check_attention(device, attention_input(B, T, H, D, Mask::packed, dropout, dtype),
                          Mask::packed, 1);
        }
      }
    }
  }
}

TEST_CASE("attention with scores far apart stays finite and picks the largest") {
  for (const TestDevice& device : devices_under_test()) {
    for (const std::int64_t D : {5, 64}) {
      AttentionInput in = attention_input(1, 70, 2, D, Mask::none, 0.0f);
      for (float& value : in.qkv) value *= 30.0f;  // scores in the thousands
      const reference::Attention want = reference::attention(in.shape(), widened(in.qkv));
      const ForwardBounds bounds = bounds_of(in, want);
      const AttentionResult got = run_attention(device, in);
      compare(join("attention far apart", device.name, D), got.out, want.out, bounds.out);
      compare(join("attention far apart lse", device.name, D), got.lse, want.lse, bounds.lse);
    }
  }
}

TEST_CASE("attention without a place for lse gives the same bits") {
  for (const TestDevice& device : devices_under_test()) {
    const AttentionInput in = attention_input(2, 33, 2, 20, Mask::left_padding, 0.0f);
    Stage stage(device.device, "attention without lse " + device.name);
    Guarded& out = stage.output({in.B, in.T, in.C()});
    device.device.attention_forward({.out = out,
                                     .qkv = stage.input(in.qkv, {in.B, in.T, 3 * in.C()}),
                                     .first_key = stage.input(in.first_key, {in.B, in.T}),
                                     .heads = 2,
                                     .scale = static_cast<float>(in.scale)});
    compare_bits(stage.what(), out.floats(), run_attention(device, in).out);
  }
}

TEST_CASE("padding sees nothing: zero out, lse of minus infinity, zero gradients") {
  for (const TestDevice& device : devices_under_test()) {
    const AttentionInput in = attention_input(2, 17, 2, 16, Mask::left_padding, 0.0f);
    const AttentionResult got = run_attention(device, in);
    const std::vector<float> d_qkv =
        run_attention_backward(device, in, got, normal(2 * 17 * 32, 63));
    for (std::int64_t b = 0; b < in.B; ++b) {
      const std::int64_t pads = in.first_key[b * in.T];
      const std::string what = join(device.name, "row", b);
      compare_bits(what + " out", slice(got.out, b * in.T * 32, pads * 32),
                   std::vector<float>(pads * 32, 0.0f));
      for (std::int64_t t = 0; t < pads; ++t) {
        CHECK(got.lse[b * in.H * in.T + t] == -std::numeric_limits<float>::infinity());
      }
      for (const float value : slice(d_qkv, b * in.T * 96, pads * 96)) CHECK(value == 0.0f);
    }
  }
}

TEST_CASE("a left-padded row equals the same row without padding, to the bit") {
  for (const TestDevice& device : devices_under_test()) {
    for (const auto& [T, D] :
         {std::pair<std::int64_t, std::int64_t>{1, 8}, {16, 17}, {33, 64}, {70, 20}}) {
      const AttentionInput alone = attention_input(1, T, 2, D, Mask::none, 0.0f);
      const AttentionResult want = run_attention(device, alone);
      for (const std::int64_t pads : {1, 5, 16, 63}) {
        AttentionInput padded = attention_input(1, T + pads, 2, D, Mask::none, 0.0f);
        std::copy(alone.qkv.begin(), alone.qkv.end(), padded.qkv.begin() + pads * 6 * D);
        padded.first_key.assign(static_cast<std::size_t>(T + pads),
                                static_cast<std::int32_t>(pads));
        const AttentionResult got = run_attention(device, padded);
        compare_bits(join("left padding", device.name, "T", T, "D", D, "pads", pads),
                     slice(got.out, pads * 2 * D, T * 2 * D), want.out);
      }
    }
  }
}

TEST_CASE("packed records equal each record alone, to the bit") {
  for (const TestDevice& device : devices_under_test()) {
    constexpr std::int64_t D = 24, C = 2 * D;
    const std::int64_t lengths[] = {1, 16, 7, 40, 2};
    AttentionInput packed = attention_input(1, 66, 2, D, Mask::none, 0.0f);
    std::int64_t start = 0;
    for (const std::int64_t length : lengths) {
      packed.first_key.insert(packed.first_key.end(), length, static_cast<std::int32_t>(start));
      start += length;
    }
    const AttentionResult got = run_attention(device, packed);
    start = 0;
    for (const std::int64_t length : lengths) {
      AttentionInput alone = attention_input(1, length, 2, D, Mask::none, 0.0f);
      alone.qkv = slice(packed.qkv, start * 3 * C, length * 3 * C);
      compare_bits(join("record of", length, device.name), slice(got.out, start * C, length * C),
                   run_attention(device, alone).out);
      start += length;
    }
  }
}

TEST_CASE("attention's rows do not depend on other rows nor on the number of threads") {
  const TestDevice& one = cpu_with_threads().front();
  for (const auto [B, T, H, D] :
       {cases::Attention{3, 33, 4, 32}, {2, 65, 3, 17}, {2, 129, 1, 64}}) {
    for (const float dropout : {0.0f, 0.1f}) {
      const AttentionInput in = attention_input(B, T, H, D, Mask::packed, dropout);
      const std::vector<float> d_out = normal(B * T * H * D, 64);
      const AttentionResult want = run_attention(one, in);
      const std::vector<float> want_back = run_attention_backward(one, in, want, d_out);
      for (const TestDevice& device : cpu_with_threads()) {
        const std::string what = join("attention", device.name, B, T, H, D, dropout);
        const AttentionResult got = run_attention(device, in);
        compare_bits(what + " out", got.out, want.out);
        compare_bits(what + " lse", got.lse, want.lse);
        compare_bits(what + " d_qkv", run_attention_backward(device, in, want, d_out), want_back);
      }
      if (dropout > 0.0f) continue;  // the stream is counted over the whole batch
      const std::int64_t last = B - 1, C = H * D;
      AttentionInput row = in;
      row.B = 1;
      row.qkv = slice(in.qkv, last * T * 3 * C, T * 3 * C);
      row.first_key = slice(in.first_key, last * T, T);
      const AttentionResult alone = run_attention(one, row);
      compare_bits(join("attention row", T, H, D), alone.out, slice(want.out, last * T * C, T * C));
      compare_bits(join("attention_backward row", T, H, D),
                   run_attention_backward(one, row, alone, slice(d_out, last * T * C, T * C)),
                   slice(want_back, last * T * 3 * C, T * 3 * C));
    }
  }
}

TEST_CASE("attention refuses a first_key that is negative or decreases") {
  for (const TestDevice& device : devices_under_test()) {
    if (!device.device.shares_host_memory()) continue;  // check_values() is for those that do
    AttentionInput in = attention_input(1, 3, 1, 4, Mask::none, 0.0f);
    in.first_key = {0, 2, 1};
    CHECK(error_of([&] { run_attention(device, in); }) ==
          "attention: first_key[2] is 1, wants at least the value before it, 2");
    in.first_key = {-1, 0, 0};
    CHECK(error_of([&] { run_attention(device, in); }) ==
          "attention: first_key[0] is -1, wants 0 or more");
  }
}

TEST_CASE("finite differences agree with the gradient of attention") {
  for (const auto [B, T, H, D] : {cases::Attention{1, 1, 1, 3}, {2, 5, 2, 3}, {1, 7, 1, 4}}) {
    for (const Mask mask : kMasks) {
      for (const float dropout : {0.0f, 0.3f}) {
        const AttentionInput in = attention_input(B, T, H, D, mask, dropout);
        const Doubles qkv = widened(in.qkv);
        const std::vector<float> d_out = normal(B * T * H * D, 65);
        const reference::Attention at = reference::attention(in.shape(), qkv);
        compare_gradient(
            join("attention", name_of(mask), dropout, B, T, H, D),
            reference::attention_gradients(in.shape(), widened(d_out), at.out, at.lse, qkv), qkv,
            [&](const Doubles& x) {
              return weighted(reference::attention(in.shape(), x).out, d_out);
            });
      }
    }
  }
}

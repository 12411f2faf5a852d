// What the attention tests feed, and how they call the ops.
#pragma once

#include <cmath>
#include <string>
#include <vector>

#include "kernels/reference/formulas.h"
#include "tests/support/data.h"
#include "tests/support/devices.h"
#include "tests/support/guarded.h"
#include "tests/support/half_types.h"

namespace quire::test {

enum class Mask { none, left_padding, packed };
inline constexpr Mask kMasks[] = {Mask::none, Mask::left_padding, Mask::packed};

inline const char* name_of(Mask mask) {
  return mask == Mask::none ? "no mask" : mask == Mask::packed ? "packed" : "left padding";
}

/// [B, M]: blocks of B cached rows of S slots, as they lie one row after the other.
inline std::vector<std::int32_t> blocks_in_order(std::int64_t B, std::int64_t S) {
  std::vector<std::int32_t> blocks;
  for (std::int64_t b = 0; b < B; ++b) {
    for (std::int64_t s = 0; s < S; s += kCacheBlock) {
      blocks.push_back(static_cast<std::int32_t>(b * S + s));
    }
  }
  return blocks;
}

struct AttentionInput {
  std::int64_t B, T, H, D;
  std::vector<float> qkv;               // [B, T, 3C]
  std::vector<std::int32_t> first_key;  // [B, T], or empty
  double scale;                         // a float's value
  float dropout;
  RandomKey key{77, 78};
  DType dtype = DType::f32;  // of all activations

  std::int64_t C() const { return H * D; }
  reference::AttentionShape shape() const { return {B, T, H, D, scale, dropout, key, first_key}; }
  /// What dropout multiplies p[q = t, k] of head h by.
  double factor(std::int64_t b, std::int64_t h, std::int64_t t, std::int64_t k) const {
    if (dropout == 0.0f) return 1.0;
    const auto element = static_cast<std::uint64_t>(((b * H + h) * T + t) * T + k);
    return reference::dropout_factor(key, dropout, element);
  }
};

inline AttentionInput attention_input(std::int64_t B, std::int64_t T, std::int64_t H,
                                      std::int64_t D, Mask mask, float dropout,
                                      DType dtype = DType::f32) {
  AttentionInput in{.B = B,
                    .T = T,
                    .H = H,
                    .D = D,
                    .qkv = rounded_to(dtype, normal(B * T * 3 * H * D, 61)),
                    .first_key = {},
                    .scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(D))),
                    .dropout = dropout,
                    .dtype = dtype};
  for (std::int64_t b = 0; b < B && mask != Mask::none; ++b) {
    std::int64_t start = 0;
    for (std::int64_t t = 0; t < T; ++t) {
      if (mask == Mask::left_padding) start = (T * (b + 1)) / (B + 2);
      if (mask == Mask::packed && (t + b) % 11 == 7) start = t;
      in.first_key.push_back(static_cast<std::int32_t>(start));
    }
  }
  return in;
}

struct AttentionResult {
  std::vector<float> out, lse;
};

inline AttentionResult run_attention(const TestDevice& device, const AttentionInput& in,
                                     std::int64_t shift = 0) {
  Stage stage(device.device, "attention " + device.name, shift);
  Guarded& out = stage.output({in.B, in.T, in.C()}, in.dtype);
  Guarded& lse = stage.output({in.B, in.H, in.T});
  AttentionForward op{.out = out,
                      .lse = lse,
                      .qkv = stage.input(in.qkv, {in.B, in.T, 3 * in.C()}, in.dtype),
                      .heads = static_cast<int>(in.H),
                      .scale = static_cast<float>(in.scale),
                      .dropout = in.dropout,
                      .key = in.key};
  if (!in.first_key.empty()) op.first_key = stage.input(in.first_key, {in.B, in.T});
  device.device.attention_forward(op);
  return {out.floats(), lse.floats()};
}

inline std::vector<float> run_attention_backward(const TestDevice& device, const AttentionInput& in,
                                                 const AttentionResult& forward,
                                                 const std::vector<float>& d_out,
                                                 std::int64_t shift = 0) {
  Stage stage(device.device, "attention_backward " + device.name, shift);
  Guarded& d_qkv = stage.output({in.B, in.T, 3 * in.C()}, in.dtype);
  AttentionBackward op{.d_qkv = d_qkv,
                       .d_out = stage.input(d_out, {in.B, in.T, in.C()}, in.dtype),
                       .out = stage.input(forward.out, {in.B, in.T, in.C()}, in.dtype),
                       .lse = stage.input(forward.lse, {in.B, in.H, in.T}),
                       .qkv = stage.input(in.qkv, {in.B, in.T, 3 * in.C()}, in.dtype),
                       .heads = static_cast<int>(in.H),
                       .scale = static_cast<float>(in.scale),
                       .dropout = in.dropout,
                       .key = in.key};
  if (!in.first_key.empty()) op.first_key = stage.input(in.first_key, {in.B, in.T});
  device.device.attention_backward(op);
  return d_qkv.floats();
}

}  // namespace quire::test

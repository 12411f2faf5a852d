// The ops that multiply, each run once on a device, for the tests of their results.
#pragma once

#include <cmath>

#include "kernels/reference/formulas.h"
#include "tests/support/compare.h"
#include "tests/support/data.h"
#include "tests/support/devices.h"
#include "tests/support/guarded.h"

namespace quire::test {

inline constexpr WeightLayout kLayouts[] = {WeightLayout::in_out, WeightLayout::out_in};

inline const char* name_of(WeightLayout layout) {
  return layout == WeightLayout::in_out ? "[K, N]" : "[N, K]";
}

inline Doubles sizes(Doubles values) {
  for (double& value : values) value = std::abs(value);
  return values;
}

inline std::vector<float> flipped(const std::vector<float>& a, std::int64_t rows,
                                  std::int64_t columns) {
  std::vector<float> out(a.size());
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t c = 0; c < columns; ++c) out[c * rows + r] = a[r * columns + c];
  }
  return out;
}

/// A weight given as [K, N], stored as the layout has it.
inline Weight put_weight(Stage& stage, const std::vector<float>& weight, std::int64_t K,
                         std::int64_t N, WeightLayout layout, DType dtype) {
  if (layout == WeightLayout::in_out) return {stage.input(weight, {K, N}, dtype), layout};
  return {stage.input(flipped(weight, K, N), {N, K}, dtype), layout};
}

struct Forward {
  std::vector<float> out, pre;
};

struct ForwardCase {
  std::int64_t M, K, N;
  WeightLayout layout = WeightLayout::in_out;
  DType dtype = DType::f32;
  Activation activation = Activation::none;
  bool bias = true;
  std::int64_t shift = 0;
  DType activations = DType::f32;
  Multiply multiply = Multiply::as_stored;
};

inline Forward run_forward(const TestDevice& device, const ForwardCase& c,
                           const std::vector<float>& x, const std::vector<float>& weight) {
  Stage stage(device.device, join("matmul", device.name, c.M, c.K, c.N), c.shift);
  Guarded& out = stage.output({c.M, c.N}, c.activations);
  Guarded& pre = stage.output({c.M, c.N}, c.activations);
  MatmulForward op{.out = out,
                   .pre_activation = pre,
                   .x = stage.input(x, {c.M, c.K}, c.activations),
                   .weight = put_weight(stage, weight, c.K, c.N, c.layout, c.dtype),
                   .activation = c.activation,
                   .multiply = c.multiply};
  if (c.bias) op.bias = stage.input(normal(c.N, 23), {c.N});
  device.device.matmul_forward(op);
  return {out.floats(), pre.floats()};
}

inline std::vector<float> run_backward_input(const TestDevice& device, const ForwardCase& c,
                                             const std::vector<float>& d_out,
                                             const std::vector<float>& weight,
                                             const std::vector<float>& pre_activation = {}) {
  Stage stage(device.device, join("matmul_backward_input", device.name, c.M, c.K, c.N), c.shift);
  Guarded& d_x = stage.output({c.M, c.K}, c.activations);
  MatmulBackwardInput op{.d_x = d_x,
                         .d_out = stage.input(d_out, {c.M, c.N}, c.activations),
                         .weight = put_weight(stage, weight, c.K, c.N, c.layout, c.dtype),
                         .multiply = c.multiply};
  if (!pre_activation.empty()) {
    op.pre_activation = stage.input(pre_activation, {c.M, c.K}, c.activations);
    op.activation = c.activation;
  }
  device.device.matmul_backward_input(op);
  return d_x.floats();
}

struct WeightGradients {
  std::vector<float> d_weight, d_bias;  // d_weight as [K, N]
};

inline WeightGradients run_backward_weight(const TestDevice& device, const ForwardCase& c,
                                           const std::vector<float>& d_out,
                                           const std::vector<float>& x,
                                           const std::vector<float>& old) {
  const bool in_out = c.layout == WeightLayout::in_out;
  Stage stage(device.device, join("matmul_backward_weight", device.name, c.M, c.K, c.N), c.shift);
  Guarded& d_weight =
      in_out ? stage.in_out(old, {c.K, c.N}) : stage.in_out(flipped(old, c.K, c.N), {c.N, c.K});
  Guarded& d_bias = stage.in_out(normal(c.N, 33), {c.N});
  device.device.matmul_backward_weight({.d_weight = {{d_weight, c.layout}},
                                        .d_bias = c.bias ? Accumulate(d_bias) : Accumulate(),
                                        .d_out = stage.input(d_out, {c.M, c.N}, c.activations),
                                        .x = stage.input(x, {c.M, c.K}, c.activations),
                                        .multiply = c.multiply});
  return {in_out ? d_weight.floats() : flipped(d_weight.floats(), c.N, c.K), d_bias.floats()};
}

/// old + scale·x·weight
inline std::vector<float> run_add(const TestDevice& device, const ForwardCase& c, float scale,
                                  const std::vector<float>& x, const std::vector<float>& weight,
                                  const std::vector<float>& old) {
  Stage stage(device.device, join("matmul_add", device.name, c.M, c.K, c.N), c.shift);
  Guarded& out = stage.in_out(old, {c.M, c.N}, c.activations);
  device.device.matmul_add({.out = Accumulate(out),
                            .x = stage.input(x, {c.M, c.K}, c.activations),
                            .weight = put_weight(stage, weight, c.K, c.N, c.layout, c.dtype),
                            .scale = scale,
                            .multiply = c.multiply});
  return out.floats();
}

}  // namespace quire::test

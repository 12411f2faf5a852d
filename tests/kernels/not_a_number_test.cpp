// A NaN must not get lost on its way: training stops on a loss or a gradient norm that is not a
// number, and a maximum or a comparison that drops it would hide the trouble.
#include <algorithm>
#include <cmath>
#include <limits>

#include "tests/support/activation_bounds.h"
#include "tests/support/attention_inputs.h"
#include "tests/support/catch.h"
#include "tests/support/compare.h"

using namespace quire;
using namespace quire::test;

namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr std::int64_t kPlaces[] = {0, 5, 16, 32};  // in whole vectors, and in what remains of 33

std::vector<float> with_nan(std::vector<float> values, std::int64_t at) {
  values[static_cast<std::size_t>(at)] = kNaN;
  return values;
}

bool all_nan(const std::vector<float>& values) {
  return std::all_of(values.begin(), values.end(), [](float value) { return std::isnan(value); });
}

bool none_nan(const std::vector<float>& values) {
  return std::none_of(values.begin(), values.end(), [](float value) { return std::isnan(value); });
}

}  // namespace

TEST_CASE("activations keep a NaN where it is") {
  for (const TestDevice& device : devices_under_test()) {
    for (const Activation activation : kActivations) {
      for (const std::int64_t at : kPlaces) {
        Stage stage(device.device, "activation of NaN");
        Guarded& out = stage.output({33});
        device.device.activation_forward({.out = out,
                                          .x = stage.input(with_nan(normal(33, 1), at), {33}),
                                          .activation = activation});
        std::vector<float> values = out.floats();
        INFO(device.name << " " << quire::test::name_of(activation) << " at " << at);
        CHECK(std::isnan(values[at]));
        values[at] = 0.0f;
        CHECK(none_nan(values));
      }
    }
  }
}

TEST_CASE("a NaN in a row makes the whole row of a layernorm NaN, and no other") {
  for (const TestDevice& device : devices_under_test()) {
    for (const std::int64_t at : kPlaces) {
      Stage stage(device.device, "layernorm of NaN");
      Guarded& out = stage.output({2, 33});
      device.device.layernorm_forward({.out = out,
                                       .x = stage.input(with_nan(normal(66, 1), at), {2, 33}),
                                       .weight = stage.input(normal(33, 2), {33}),
                                       .bias = stage.input(normal(33, 3), {33})});
      INFO(device.name << " at " << at);
      CHECK(all_nan(slice(out.floats(), 0, 33)));
      CHECK(none_nan(slice(out.floats(), 33, 33)));
    }
  }
}

TEST_CASE("a NaN in a row makes the whole row of a product NaN, and no other") {
  for (const TestDevice& device : devices_under_test()) {
    for (const std::int64_t at : kPlaces) {
      Stage stage(device.device, "matmul of NaN");
      Guarded& out = stage.output({2, 17});
      device.device.matmul_forward(
          {.out = out,
           .x = stage.input(with_nan(normal(66, 1), at), {2, 33}),
           .weight = {stage.input(normal(33 * 17, 2), {33, 17}), WeightLayout::in_out}});
      INFO(device.name << " at " << at);
      CHECK(all_nan(slice(out.floats(), 0, 17)));
      CHECK(none_nan(slice(out.floats(), 17, 17)));
    }
  }
}

TEST_CASE("a NaN among the logits makes the loss NaN") {
  for (const TestDevice& device : devices_under_test()) {
    for (const std::int64_t at : kPlaces) {
      Stage stage(device.device, "cross_entropy of NaN");
      Guarded& losses = stage.output({2});
      Guarded& again = stage.output({2});
      Guarded& both = stage.in_out(with_nan(normal(66, 1), at), {2, 33});
      Guarded& targets = stage.input(std::vector<std::int32_t>{3, 4}, {2});
      device.device.cross_entropy_forward({.losses = losses, .logits = both, .targets = targets});
      device.device.cross_entropy_backward(
          {.losses = again, .logits_to_grads = both, .targets = targets});
      INFO(device.name << " at " << at);
      for (const std::vector<float>& values : {losses.floats(), again.floats()}) {
        CHECK(std::isnan(values[0]));
        CHECK_FALSE(std::isnan(values[1]));
      }
      CHECK(std::isnan(both.floats()[static_cast<std::size_t>(at)]));
    }
  }
}

TEST_CASE("a NaN in a query reaches its own output, one in a key all outputs that see it") {
  for (const TestDevice& device : devices_under_test()) {
    for (const std::int64_t T : {5, 70}) {
      constexpr std::int64_t kD = 17;
      AttentionInput in = attention_input(1, T, 1, kD, Mask::none, 0.0f);
      const std::int64_t at = T / 2;
      INFO(device.name << " T " << T);
      in.qkv[at * 3 * kD + 2] = kNaN;  // query
      std::vector<float> out = run_attention(device, in).out;
      CHECK(none_nan(slice(out, 0, at * kD)));
      CHECK(all_nan(slice(out, at * kD, kD)));
      CHECK(none_nan(slice(out, (at + 1) * kD, (T - at - 1) * kD)));
      std::swap(in.qkv[at * 3 * kD + 2], in.qkv[at * 3 * kD + kD + 2]);  // key
      out = run_attention(device, in).out;
      CHECK(none_nan(slice(out, 0, at * kD)));
      CHECK(all_nan(slice(out, at * kD, (T - at) * kD)));
    }
  }
}

TEST_CASE("a NaN or an infinity among the gradients makes their norm NaN or infinite") {
  for (const TestDevice& device : devices_under_test()) {
    for (const std::int64_t at : kPlaces) {
      Stage stage(device.device, "squared_norm of NaN");
      const ConstView tensors[] = {stage.input(normal(9, 1), {9}),
                                   stage.input(with_nan(normal(33, 1), at), {33})};
      CHECK(std::isnan(device.device.squared_norm(tensors)));
    }
    Stage stage(device.device, "squared_norm of infinity");
    const ConstView infinite[] = {
        stage.input(std::vector<float>{1.0f, std::numeric_limits<float>::infinity()}, {2})};
    CHECK(std::isinf(device.device.squared_norm(infinite)));
    // Squares of large gradients overflow a float long before the norm does.
    const ConstView large[] = {stage.input(std::vector<float>{1e30f, 1e30f}, {2})};
    CHECK(std::abs(device.device.squared_norm(large) / 2e60 - 1.0) < 2.0 * kEps);
  }
}

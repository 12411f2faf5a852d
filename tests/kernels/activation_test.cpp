#include <cmath>

#include "kernels/reference/formulas.h"
#include "tests/support/activation_bounds.h"
#include "tests/support/cases.h"
#include "tests/support/catch.h"
#include "tests/support/data.h"
#include "tests/support/devices.h"
#include "tests/support/guarded.h"
#include "tests/support/half_types.h"

using namespace quire;
using namespace quire::test;
using quire::test::name_of;

namespace {

/// Normal numbers around the bends, then zeros, tiny numbers and both saturated ends.
std::vector<float> inputs(std::int64_t count, std::uint64_t seed) {
  std::vector<float> x = normal(count, seed, 0.0, 3.0);
  const float special[] = {0.0f, -0.0f, 1e-30f, -1e-30f, 9.5f, -9.5f, 60.0f, -60.0f, 1e4f, -1e4f};
  for (std::size_t i = 0; i < std::size(special); ++i) {
    if (3 * i + 1 < x.size()) x[3 * i + 1] = special[i];
  }
  return x;
}

}  // namespace

TEST_CASE("activation_forward agrees with its formula, in place too") {
  for (const TestDevice& device : devices_under_test()) {
    for (const DType dtype : device.types) {
      for (const Activation activation : kActivations) {
        for (const std::int64_t count : cases::kCounts) {
          const std::vector<float> x = rounded_to(dtype, inputs(count, 5));
          Doubles want(x.size());
          for (std::size_t i = 0; i < x.size(); ++i) {
            want[i] = reference::activate(activation, x[i]);
          }
          const auto bound = [&](std::size_t i) {
            return stored(dtype, want[i], activation_bound(activation, x[i]) + 0x1p-126);
          };
          Stage stage(
              device.device,
              join("activation", name_of(activation), device.name, quire::name_of(dtype), count),
              count % 2);
          Guarded& out = stage.output({count}, dtype);
          device.device.activation_forward(
              {.out = out, .x = stage.input(x, {count}, dtype), .activation = activation});
          compare(stage.what(), out.floats(), want, bound);
          Guarded& both = stage.in_out(x, {count}, dtype);
          device.device.activation_forward({.out = both, .x = both, .activation = activation});
          compare_bits(stage.what() + " in place", both.floats(), out.floats());
        }
      }
    }
  }
}

TEST_CASE("activation_backward agrees with its formula, in place too") {
  for (const TestDevice& device : devices_under_test()) {
    for (const DType dtype : device.types) {
      for (const Activation activation : kActivations) {
        for (const std::int64_t count : cases::kCounts) {
          const std::vector<float> x = rounded_to(dtype, inputs(count, 6));
          const std::vector<float> d_out = rounded_to(dtype, normal(count, 7));
          Doubles want(x.size());
          for (std::size_t i = 0; i < x.size(); ++i) {
            want[i] = d_out[i] * reference::activation_slope(activation, x[i]);
          }
          const auto bound = [&](std::size_t i) {
            return stored(dtype, want[i],
                          std::abs(d_out[i]) * activation_slope_bound(activation, x[i]) +
                              kEps * std::abs(want[i]) + 0x1p-126);
          };
          Stage stage(device.device,
                      join("activation_backward", name_of(activation), device.name,
                           quire::name_of(dtype), count),
                      count % 2);
          Guarded& d_x = stage.output({count}, dtype);
          Guarded& pre = stage.input(x, {count}, dtype);
          device.device.activation_backward({.d_x = d_x,
                                             .d_out = stage.input(d_out, {count}, dtype),
                                             .x = pre,
                                             .activation = activation});
          compare(stage.what(), d_x.floats(), want, bound);
          Guarded& both = stage.in_out(d_out, {count}, dtype);
          device.device.activation_backward(
              {.d_x = both, .d_out = both, .x = pre, .activation = activation});
          compare_bits(stage.what() + " in place", both.floats(), d_x.floats());
        }
      }
    }
  }
}

TEST_CASE("an element's activation does not depend on its place nor on the number of threads") {
  const TestDevice& one = cpu_with_threads().front();
  constexpr std::int64_t kCount = 70001;
  const std::vector<float> x = inputs(kCount, 8), d_out = normal(kCount, 9);
  for (const Activation activation : kActivations) {
    const auto forward = [&](const TestDevice& device, const std::vector<float>& values) {
      Stage stage(device.device, join("activation", device.name));
      const auto count = static_cast<std::int64_t>(values.size());
      Guarded& out = stage.output({count});
      device.device.activation_forward(
          {.out = out, .x = stage.input(values, {count}), .activation = activation});
      return out.floats();
    };
    const std::vector<float> want = forward(one, x);
    for (const TestDevice& device : cpu_with_threads()) {
      compare_bits(join("activation", name_of(activation), device.name), forward(device, x), want);
    }
    for (const std::int64_t first : {0, 3, 16, 69984}) {  // whole vectors there, remainders here
      compare_bits(join("activation", name_of(activation), "from", first),
                   forward(one, slice(x, first, 17)), slice(want, first, 17));
    }
  }
}

TEST_CASE("finite differences agree with the slopes of the activations") {
  for (const Activation activation : kActivations) {
    Doubles x;
    for (double at = -6.03; at < 6.1; at += 0.37) x.push_back(at);
    const std::vector<float> d_out = normal(static_cast<std::int64_t>(x.size()), 10);
    Doubles gradient;
    for (std::size_t i = 0; i < x.size(); ++i) {
      gradient.push_back(d_out[i] * reference::activation_slope(activation, x[i]));
    }
    compare_gradient(name_of(activation), gradient, x, [&](const Doubles& at) {
      Doubles out;
      for (const double value : at) out.push_back(reference::activate(activation, value));
      return weighted(out, d_out);
    });
  }
}

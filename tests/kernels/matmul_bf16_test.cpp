// Products of float operands that are rounded to bfloat16: the reference, and the CPU where it has
// the instructions.
#include <cmath>
#include <limits>

#include "kernels/reference/formulas.h"
#include "kernels/reference/reference_device.h"
#include "tests/support/activation_bounds.h"
#include "tests/support/bf16.h"
#include "tests/support/cases.h"
#include "tests/support/catch.h"
#include "tests/support/data.h"
#include "tests/support/devices.h"
#include "tests/support/emulated_tiles.h"
#include "tests/support/half_types.h"
#include "tests/support/products.h"

using namespace quire;
using namespace quire::test;
using quire::test::name_of;

namespace {

/// What a product of `a` and `b`, both rounded, is, and how large its terms are.
struct Rounded {
  Doubles value, size;
  Rounded(const std::vector<float>& a, const std::vector<float>& b, std::int64_t M, std::int64_t K,
          std::int64_t N)
      : Rounded(widened(rounded_to(DType::bf16, a)), widened(rounded_to(DType::bf16, b)), M, K, N) {
  }
  Rounded(const Doubles& a, const Doubles& b, std::int64_t M, std::int64_t K, std::int64_t N)
      : value(reference::matmul(a, b, M, K, N)),
        size(reference::matmul(sizes(a), sizes(b), M, K, N)) {}
};

/// The product of two rounded numbers is exact in float, so all that remains is the sum's error:
/// terms·eps·Σ|ab|, as for float operands. Not rounding, or rounding elsewhere, is off by 2^-9.
void check_formulas(const TestDevice& device) {
  std::int64_t turn = 0;
  const auto check_shape = [&](std::int64_t M, std::int64_t K, std::int64_t N) {
    const DType dtype = std::array{DType::f32, DType::bf16, DType::f16}[++turn % 3];
    const std::vector<float> x = normal(M * K, 1), d_out = normal(M * N, 2);
    const std::vector<float> weight = rounded_to(dtype, normal(K * N, 3));
    const std::vector<float> old = normal(K * N, 4), bias = normal(N, 23), out = normal(M * N, 5);
    constexpr float kScale = -0.7f;
    std::vector<float> scaled = x;
    for (float& value : scaled) value *= kScale;
    const Rounded product(x, weight, M, K, N), added(scaled, weight, M, K, N),
        d_x(d_out, flipped(weight, K, N), M, N, K), d_weight(flipped(x, M, K), d_out, K, M, N);
    for (const WeightLayout layout : kLayouts) {
      const ForwardCase c{.M = M,
                          .K = K,
                          .N = N,
                          .layout = layout,
                          .dtype = dtype,
                          .activation = kActivations[turn % 6],
                          .shift = turn % 2,
                          .multiply = Multiply::in_bf16};
      const std::string what =
          join("in bfloat16:", device.name, name_of(dtype), name_of(layout), M, K, N);
      const double k = static_cast<double>(K), n = static_cast<double>(N),
                   m = static_cast<double>(M);

      Doubles pre = product.value, pre_bound(pre.size()), act(pre.size()), act_bound(pre.size());
      for (std::size_t i = 0; i < pre.size(); ++i) {
        const double b = bias[i % bias.size()];
        pre[i] += b;
        pre_bound[i] = (k + 2.0) * kEps * (product.size[i] + std::abs(b));
        act[i] = reference::activate(c.activation, pre[i]);
        act_bound[i] = kSteepest * pre_bound[i] + activation_bound(c.activation, pre[i]);
      }
      const Forward got = run_forward(device, c, x, weight);
      compare(what + " pre", got.pre, pre, pre_bound);
      compare(what + " out", got.out, act, act_bound);

      compare(what + " d_x", run_backward_input(device, c, d_out, weight), d_x.value,
              [&](std::size_t i) { return (n + 1.0) * kEps * d_x.size[i]; });

      const WeightGradients gradients = run_backward_weight(device, c, d_out, x, old);
      Doubles want = d_weight.value, want_bias = widened(normal(N, 33)), size = sizes(want_bias);
      for (std::size_t i = 0; i < want.size(); ++i) want[i] += old[i];
      for (std::size_t i = 0; i < d_out.size(); ++i) {  // no product: not rounded
        want_bias[i % size.size()] += d_out[i];
        size[i % size.size()] += std::abs(d_out[i]);
      }
      compare(what + " d_weight", gradients.d_weight, want, [&](std::size_t i) {
        return (m + 2.0) * kEps * (d_weight.size[i] + std::abs(old[i]));
      });
      compare(what + " d_bias", gradients.d_bias, want_bias,
              [&](std::size_t i) { return (m + 2.0) * kEps * size[i]; });

      Doubles sum = added.value;
      for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += out[i];
      compare(what + " added", run_add(device, c, kScale, x, weight, out), sum,
              [&](std::size_t i) { return (k + 3.0) * kEps * (added.size[i] + std::abs(out[i])); });
    }
  };
  for (const auto [M, K, N] : cases::kMatmul) check_shape(M, K, N);
  check_shape(9, 16500, 2);  // deeper than is packed at once
}

/// Numbers of every exponent with the bits that decide how they are rounded.
std::vector<float> awkward_numbers() {
  std::vector<float> numbers = {0.0f, std::numeric_limits<float>::infinity(),
                                std::numeric_limits<float>::max()};
  for (std::uint32_t exponent = 1; exponent < 255; exponent += 2) {
    for (const std::uint32_t bits : {0x0000u, 0x0001u, 0x7fffu, 0x8000u, 0x8001u, 0xffffu, 0x10000u,
                                     0x18000u, 0x7f7fffu, 0x7f8000u, 0x7fffffu}) {
      numbers.push_back(std::bit_cast<float>(exponent << 23 | bits));
    }
  }
  const std::size_t count = numbers.size();
  for (std::size_t i = 0; i < count; ++i) numbers.push_back(-numbers[i]);
  return numbers;
}

/// Products of one term, by 1.
void check_rounding(const TestDevice& device) {
  const std::vector<float> numbers = awkward_numbers();
  std::vector<float> want = rounded_to(DType::bf16, numbers);
  for (float& value : want) value += 0.0f;  // -0 is lost in a sum that starts from 0
  const std::int64_t count = static_cast<std::int64_t>(numbers.size());
  for (const WeightLayout layout : kLayouts) {
    ForwardCase c{
        .M = count, .K = 1, .N = 1, .layout = layout, .bias = false, .multiply = Multiply::in_bf16};
    compare_bits(join("x of", device.name), run_forward(device, c, numbers, {1.0f}).out, want);
    std::swap(c.M, c.N);
    compare_bits(join("weight of", device.name, name_of(layout)),
                 run_forward(device, c, {1.0f}, numbers).out, want);
  }
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const ForwardCase c{.M = 2, .K = 3, .N = 1, .bias = false, .multiply = Multiply::in_bf16};
  const std::vector<float> got =
      run_forward(device, c, {1, nan, 1, 1, 2, 3}, {1.0f, 1.0f, 1.0f}).out;
  CHECK(std::isnan(got[0]));
  CHECK(got[1] == 6.0f);
}

}  // namespace

TEST_CASE("the reference's products in bfloat16 agree with their formulas") {
  check_formulas(devices_under_test().front());
  check_rounding(devices_under_test().front());
}

TEST_CASE("the CPU's products in bfloat16 agree with their formulas") {
  QUIRE_NEEDS_BF16(cpu_with_threads().front().device);
  check_formulas(cpu_with_threads().back());
}

TEST_CASE("the CPU rounds operands to the nearest bfloat16, ties to even") {
  QUIRE_NEEDS_BF16(cpu_with_threads().front().device);
  check_rounding(cpu_with_threads().front());
}

TEST_CASE("products in bfloat16 by tiles agree with their formulas") {
  QUIRE_NEEDS_BF16(cpu_with_threads().front().device);
  check_formulas(cpu_with_emulated_tiles().back());
  check_rounding(cpu_with_emulated_tiles().front());
}

/// Rows of M at a time against the same among others, on devices with different numbers of threads.
void check_rows_alone(const std::vector<TestDevice>& devices, WeightLayout layout, DType dtype,
                      std::int64_t K, std::int64_t N) {
  const TestDevice& one = devices.front();
  constexpr std::int64_t kRows = 70;
  const std::vector<float> x = normal(kRows * K, 11);
  const std::vector<float> weight = rounded_to(dtype, normal(K * N, 12));
  const std::vector<float> d_out = normal(kRows * N, 13), old = normal(K * N, 14);
  ForwardCase c{.M = kRows,
                .K = K,
                .N = N,
                .layout = layout,
                .dtype = dtype,
                .activation = Activation::gelu_new,
                .multiply = Multiply::in_bf16};
  const Forward want = run_forward(one, c, x, weight);
  const std::vector<float> d_x = run_backward_input(one, c, d_out, weight);
  const std::vector<float> d_weight = run_backward_weight(one, c, d_out, x, old).d_weight;
  const std::vector<float> out = normal(kRows * N, 15), sum = run_add(one, c, 0.3f, x, weight, out);
  for (const TestDevice& device : devices) {
    const std::string what = join(device.name, name_of(dtype), name_of(layout), K, N);
    compare_bits(what, run_forward(device, c, x, weight).out, want.out);
    compare_bits(what + " d_x", run_backward_input(device, c, d_out, weight), d_x);
    compare_bits(what + " d_weight", run_backward_weight(device, c, d_out, x, old).d_weight,
                 d_weight);
  }
  for (const std::int64_t M : {1, 2, 3, 4, 5, 6, 7, 8, 9, 13, 16, 17, 31, 33, 65}) {
    const std::int64_t first = (M * 7) % (kRows - M + 1);
    c.M = M;
    c.shift = M % 2;
    const TestDevice& device = devices[static_cast<std::size_t>(M) % 3];
    const std::string what =
        join(device.name, name_of(dtype), name_of(layout), "M", M, "K", K, "N", N);
    compare_bits(what + " pre", run_forward(device, c, slice(x, first * K, M * K), weight).pre,
                 slice(want.pre, first * N, M * N));
    compare_bits(what + " d_x",
                 run_backward_input(device, c, slice(d_out, first * N, M * N), weight),
                 slice(d_x, first * K, M * K));
    compare_bits(
        what + " sum",
        run_add(device, c, 0.3f, slice(x, first * K, M * K), weight, slice(out, first * N, M * N)),
        slice(sum, first * N, M * N));
  }
}

TEST_CASE("in bfloat16 too a row does not depend on other rows, on blocking or on threads") {
  QUIRE_NEEDS_BF16(cpu_with_threads().front().device);
  for (const WeightLayout layout : kLayouts) {
    for (const DType dtype : {DType::f32, DType::bf16}) {
      for (const auto& [K, N] : {std::pair<std::int64_t, std::int64_t>{65, 63},
                                 {129, 4},
                                 {513, 130},
                                 {1025, 31},
                                 {96, 257},
                                 {385, 513},
                                 {768, 97}}) {
        check_rows_alone(cpu_with_threads(), layout, dtype, K, N);
      }
    }
    check_rows_alone(cpu_with_threads(), layout, DType::bf16, 16500,
                     2);  // deeper than is packed at once
  }
}

TEST_CASE("by tiles too a row does not depend on other rows, on blocking or on threads") {
  QUIRE_NEEDS_BF16(cpu_with_threads().front().device);
  for (const WeightLayout layout : kLayouts) {
    for (const auto& [K, N] :
         {std::pair<std::int64_t, std::int64_t>{65, 63}, {385, 130}, {33, 257}}) {
      check_rows_alone(cpu_with_emulated_tiles(), layout, DType::bf16, K, N);
    }
    check_rows_alone(cpu_with_emulated_tiles(), layout, DType::f32, 129, 33);
  }
}

TEST_CASE("a device that does not round operands says so, and none rounds what is narrow") {
  const std::vector<float> x = normal(12, 1), weight = normal(20, 2), d_out = normal(15, 3),
                           old = normal(20, 4), out = normal(15, 5);
  for (const TestDevice& device : devices_for_products()) {
    INFO(device.name);
    ForwardCase c{.M = 3, .K = 4, .N = 5, .multiply = Multiply::in_bf16};
    const bool refuses = !device.device.why_not_in_bf16().empty();
    if (!refuses) c.activations = DType::bf16;
    const std::string want =
        refuses ? " does not multiply in bfloat16: " + device.device.why_not_in_bf16()
                : "matmul: operands to be rounded to bfloat16 are bfloat16, wants float32";
    const auto ends_so = [&](const std::function<void()>& call) {
      return error_of(call).ends_with(want);
    };
    CHECK(ends_so([&] {
      MatmulForward op{.multiply = Multiply::in_bf16};
      Stage stage(device.device, "refused");
      op.out = stage.in_out(out, {3, 5}, c.activations);
      op.x = stage.input(x, {3, 4}, c.activations);
      op.weight = {stage.input(weight, {4, 5}), WeightLayout::in_out};
      device.device.matmul_forward(op);
    }));
    CHECK(ends_so([&] {
      MatmulBackwardInput op{.multiply = Multiply::in_bf16};
      Stage stage(device.device, "refused");
      op.d_x = stage.in_out(x, {3, 4}, c.activations);
      op.d_out = stage.input(d_out, {3, 5}, c.activations);
      op.weight = {stage.input(weight, {4, 5}), WeightLayout::in_out};
      device.device.matmul_backward_input(op);
    }));
    CHECK(ends_so([&] { run_backward_weight(device, c, d_out, x, old); }));
    CHECK(ends_so([&] { run_add(device, c, 1.0f, x, weight, out); }));
  }
}

#include <cmath>

#include "kernels/reference/formulas.h"
#include "tests/support/activation_bounds.h"
#include "tests/support/cases.h"
#include "tests/support/catch.h"
#include "tests/support/data.h"
#include "tests/support/devices.h"
#include "tests/support/guarded.h"
#include "tests/support/half_types.h"
#include "tests/support/products.h"

using namespace quire;
using namespace quire::test;
using quire::test::name_of;

TEST_CASE("matmul_backward_input agrees with its formula") {
  for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
    std::int64_t shift = 0;
    for (const auto [M, K, N] : cases::kMatmul) {
      const std::vector<float> d_out = normal(M * N, 5);
      const std::vector<float> weight = rounded_to(dtype, normal(K * N, 6));
      const Doubles transposed = reference::transposed(widened(weight), K, N);
      const Doubles want = reference::matmul(widened(d_out), transposed, M, N, K);
      const Doubles size = reference::matmul(sizes(widened(d_out)), sizes(transposed), M, N, K);
      for (const TestDevice& device : devices_for_products()) {
        for (const WeightLayout layout : kLayouts) {
          const ForwardCase c{
              .M = M, .K = K, .N = N, .layout = layout, .dtype = dtype, .shift = shift ^= 1};
          compare(join("matmul_backward_input", device.name, name_of(dtype), name_of(layout), "M",
                       M, "K", K, "N", N),
                  run_backward_input(device, c, d_out, weight), want, [&, N = N](std::size_t i) {
                    return (static_cast<double>(N) + 1.0) * kEps * size[i];
                  });
        }
      }
    }
  }
}

TEST_CASE("matmul_backward_input agrees with its formula through an activation") {
  int turn = 0;
  for (const auto [M, K, N] : {cases::Matmul{1, 1, 1},
                               {3, 9, 7},
                               {7, 31, 33},
                               {8, 32, 32},
                               {9, 48, 17},
                               {33, 72, 40},
                               {65, 17, 48},
                               {12, 264, 96}}) {
    for (const TestDevice& device : devices_for_products()) {
      for (const DType dtype : device.types) {
        const std::vector<float> d_out = rounded_to(dtype, normal(M * N, 61));
        const std::vector<float> weight = rounded_to(dtype, normal(K * N, 62));
        const std::vector<float> pre = rounded_to(dtype, normal(M * K, 63, 0.0, 3.0));
        const Doubles transposed = reference::transposed(widened(weight), K, N);
        const Doubles product = reference::matmul(widened(d_out), transposed, M, N, K);
        const Doubles size = reference::matmul(sizes(widened(d_out)), sizes(transposed), M, N, K);
        for (const WeightLayout layout : kLayouts) {
          for (const Activation activation : {Activation::gelu_new, kActivations[++turn % 6]}) {
            const ForwardCase c{.M = M,
                                .K = K,
                                .N = N,
                                .layout = layout,
                                .dtype = dtype,
                                .activation = activation,
                                .shift = turn / 2 % 2,
                                .activations = dtype};
            Doubles want(product.size()), bound(product.size());
            for (std::size_t i = 0; i < want.size(); ++i) {
              const double slope = reference::activation_slope(activation, pre[i]);
              // The product may be stored before the slope is taken.
              const double of_product =
                  stored(dtype, product[i], (static_cast<double>(N) + 1.0) * kEps * size[i]);
              const double of_slope = activation_slope_bound(activation, pre[i]);
              want[i] = product[i] * slope;
              bound[i] = stored(dtype, want[i],
                                of_product * (std::abs(slope) + of_slope) +
                                    std::abs(product[i]) * of_slope + kEps * std::abs(want[i]));
            }
            compare(join("matmul_backward_input", device.name, quire::name_of(dtype),
                         name_of(layout), name_of(activation), "M", M, "K", K, "N", N),
                    run_backward_input(device, c, d_out, weight, pre), want, bound);
          }
        }
      }
    }
  }
}

TEST_CASE("the CPU's matmul_backward_input has the bits of a product and activation_backward") {
  for (const TestDevice& device : cpu_with_threads()) {
    for (const auto [M, K, N] : {cases::Matmul{1, 65, 33}, {7, 31, 40}, {33, 48, 257}}) {
      const std::vector<float> d_out = normal(M * N, 64), weight = normal(K * N, 65);
      const std::vector<float> pre = normal(M * K, 66, 0.0, 3.0);
      const ForwardCase c{.M = M, .K = K, .N = N, .activation = Activation::gelu_new};
      Stage stage(device.device, join("product and activation_backward", device.name, M, K, N));
      Guarded& want = stage.in_out(run_backward_input(device, c, d_out, weight), {M, K});
      device.device.activation_backward(
          {.d_x = want, .d_out = want, .x = stage.input(pre, {M, K})});
      compare_bits(stage.what(), run_backward_input(device, c, d_out, weight, pre), want.floats());
    }
  }
}

TEST_CASE("matmul_backward_weight adds its formula to what is there") {
  std::int64_t shift = 0;
  for (const auto [M, K, N] : cases::kMatmul) {
    const std::vector<float> x = normal(M * K, 7), d_out = normal(M * N, 8);
    const std::vector<float> old = normal(K * N, 9), old_bias = normal(N, 33);
    const Doubles x_t = reference::transposed(widened(x), M, K);
    Doubles want = reference::matmul(x_t, widened(d_out), K, M, N);
    Doubles size = reference::matmul(sizes(x_t), sizes(widened(d_out)), K, M, N);
    Doubles want_bias = reference::sum_of_rows(widened(d_out), N);
    Doubles size_bias = reference::sum_of_rows(sizes(widened(d_out)), N);
    for (std::size_t i = 0; i < want.size(); ++i) {
      want[i] += old[i];
      size[i] += std::abs(old[i]);
    }
    for (std::size_t i = 0; i < want_bias.size(); ++i) {
      want_bias[i] += old_bias[i];
      size_bias[i] += std::abs(old_bias[i]);
    }
    const double count = static_cast<double>(M) + 2.0;
    for (const TestDevice& device : devices_for_products()) {
      for (const WeightLayout layout : kLayouts) {
        const ForwardCase c{.M = M, .K = K, .N = N, .layout = layout, .shift = shift ^= 1};
        const WeightGradients got = run_backward_weight(device, c, d_out, x, old);
        const std::string what =
            join("matmul_backward_weight", device.name, name_of(layout), "M", M, "K", K, "N", N);
        compare(what + " d_weight", got.d_weight, want,
                [&](std::size_t i) { return count * kEps * size[i]; });
        compare(what + " d_bias", got.d_bias, want_bias,
                [&](std::size_t i) { return count * kEps * size_bias[i]; });
      }
    }
  }
}

TEST_CASE("matmul_backward_weight without a bias leaves it alone") {
  for (const TestDevice& device : devices_for_products()) {
    const ForwardCase c{.M = 5, .K = 9, .N = 17, .bias = false};
    const std::vector<float> x = normal(5 * 9, 7), d_out = normal(5 * 17, 8),
                             old = normal(9 * 17, 9);
    const WeightGradients got = run_backward_weight(device, c, d_out, x, old);
    compare_bits("d_bias " + device.name, got.d_bias, normal(17, 33));
  }
}

TEST_CASE("weight gradients do not depend on the number of threads") {
  for (const WeightLayout layout : kLayouts) {
    for (const auto [M, K, N] : {cases::Matmul{257, 33, 65}, {66, 513, 20}, {40, 130, 1003}}) {
      const ForwardCase c{.M = M, .K = K, .N = N, .layout = layout};
      const std::vector<float> x = normal(M * K, 14), d_out = normal(M * N, 15),
                               old = normal(K * N, 16);
      const WeightGradients want =
          run_backward_weight(cpu_with_threads().front(), c, d_out, x, old);
      for (const TestDevice& device : cpu_with_threads()) {
        const WeightGradients got = run_backward_weight(device, c, d_out, x, old);
        const std::string what = join(device.name, name_of(layout), M, K, N);
        compare_bits(what + " d_weight", got.d_weight, want.d_weight);
        compare_bits(what + " d_bias", got.d_bias, want.d_bias);
      }
    }
  }
}

TEST_CASE(
    "the CPU adds d_out to a bias's gradient row by row, whatever the product does meanwhile") {
  // Few rows of the weight and many, several tiles of them, several parts of the sum, and so many
  // rows of d_out that the product takes them in turns.
  for (const auto [M, K, N] : {cases::Matmul{5, 3, 20}, {300, 1030, 150}, {8300, 9, 50}}) {
    const std::vector<float> x = normal(M * K, 70), d_out = normal(M * N, 71);
    const std::vector<float> old = normal(K * N, 72);
    std::vector<float> want = normal(N, 33);  // what run_backward_weight() has there
    for (std::int64_t i = 0; i < M * N; ++i) want[i % N] += d_out[i];
    for (const TestDevice& device : cpu_with_threads()) {
      for (const WeightLayout layout : kLayouts) {
        const ForwardCase c{.M = M, .K = K, .N = N, .layout = layout};
        compare_bits(join("d_bias", device.name, name_of(layout), M, K, N),
                     run_backward_weight(device, c, d_out, x, old).d_bias, want);
      }
    }
  }
}

TEST_CASE("finite differences agree with the gradients of a product") {
  constexpr std::int64_t M = 3, K = 5, N = 4;
  const Doubles x = widened(normal(M * K, 17)), weight = widened(normal(K * N, 18));
  const std::vector<float> d_out = normal(M * N, 19);
  const Doubles d_x =
      reference::matmul(widened(d_out), reference::transposed(weight, K, N), M, N, K);
  const Doubles d_weight =
      reference::matmul(reference::transposed(x, M, K), widened(d_out), K, M, N);
  compare_gradient("matmul d_x", d_x, x, [&](const Doubles& at) {
    return weighted(reference::matmul(at, weight, M, K, N), d_out);
  });
  compare_gradient("matmul d_weight", d_weight, weight, [&](const Doubles& at) {
    return weighted(reference::matmul(x, at, M, K, N), d_out);
  });
}

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

TEST_CASE("matmul_forward agrees with its formula for every weight type, layout and activation") {
  for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
    int turn = 0;
    for (const auto [M, K, N] : cases::kMatmul) {
      const std::vector<float> x = normal(M * K, 1);
      const std::vector<float> weight = rounded_to(dtype, normal(K * N, 2));
      const Doubles product = reference::matmul(widened(x), widened(weight), M, K, N);
      const Doubles size = reference::matmul(sizes(widened(x)), sizes(widened(weight)), M, K, N);
      const std::vector<float> bias = normal(N, 23);
      for (const TestDevice& device : devices_for_products()) {
        for (const WeightLayout layout : kLayouts) {
          ++turn;
          const ForwardCase c{.M = M,
                              .K = K,
                              .N = N,
                              .layout = layout,
                              .dtype = dtype,
                              .activation = kActivations[turn % 6],
                              .bias = turn % 5 != 0,
                              .shift = turn % 2};
          const Forward got = run_forward(device, c, x, weight);
          Doubles pre = product, pre_bound(pre.size()), out(pre.size()), out_bound(pre.size());
          for (std::size_t i = 0; i < pre.size(); ++i) {
            const double b = c.bias ? bias[i % bias.size()] : 0.0;
            pre[i] += b;
            pre_bound[i] = (static_cast<double>(K) + 2.0) * kEps * (size[i] + std::abs(b));
            out[i] = reference::activate(c.activation, pre[i]);
            out_bound[i] = kSteepest * pre_bound[i] + activation_bound(c.activation, pre[i]);
          }
          const std::string what =
              join("matmul", device.name, name_of(dtype), name_of(layout), name_of(c.activation),
                   c.bias ? "bias" : "no bias", "M", M, "K", K, "N", N);
          compare(what + " pre", got.pre, pre, pre_bound);
          compare(what + " out", got.out, out, out_bound);
        }
      }
    }
  }
}

TEST_CASE("matmul_forward without a place for the pre-activation gives the same bits") {
  for (const TestDevice& device : devices_for_products()) {
    for (const auto [M, K, N] : {cases::Matmul{1, 65, 33}, {7, 31, 33}, {33, 48, 257}}) {
      for (const WeightLayout layout : kLayouts) {
        const std::vector<float> x = normal(M * K, 3), weight = normal(K * N, 4);
        const ForwardCase c{
            .M = M, .K = K, .N = N, .layout = layout, .activation = Activation::gelu_new};
        const Forward want = run_forward(device, c, x, weight);
        Stage stage(device.device, join("matmul without pre", device.name, M, K, N));
        Guarded& out = stage.output({M, N});
        device.device.matmul_forward({.out = out,
                                      .x = stage.input(x, {M, K}),
                                      .weight = put_weight(stage, weight, K, N, layout, DType::f32),
                                      .bias = stage.input(normal(N, 23), {N}),
                                      .activation = Activation::gelu_new});
        compare_bits(stage.what(), out.floats(), want.out);
      }
    }
  }
}

TEST_CASE("a row of a product does not depend on other rows, on blocking or on threads") {
  const TestDevice& one = cpu_with_threads().front();
  for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
    for (const WeightLayout layout : kLayouts) {
      for (const auto& [K, N] : {std::pair<std::int64_t, std::int64_t>{65, 63},
                                 {129, 4},
                                 {513, 130},
                                 {1025, 31},
                                 {96, 257}}) {
        constexpr std::int64_t kRows = 70;
        const std::vector<float> x = normal(kRows * K, 11), weight = normal(K * N, 12);
        const std::vector<float> d_out = normal(kRows * N, 13);
        ForwardCase c{.M = kRows,
                      .K = K,
                      .N = N,
                      .layout = layout,
                      .dtype = dtype,
                      .activation = Activation::gelu_new};
        const Forward want = run_forward(one, c, x, weight);
        const std::vector<float> want_d_x = run_backward_input(one, c, d_out, weight);
        const auto what = [&, K = K, N = N](const std::string& who, std::int64_t M) {
          return join(who, name_of(dtype), name_of(layout), "M", M, "K", K, "N", N);
        };
        for (const TestDevice& device : cpu_with_threads()) {
          compare_bits(what(device.name, kRows), run_forward(device, c, x, weight).out, want.out);
          compare_bits(what(device.name + " d_x", kRows),
                       run_backward_input(device, c, d_out, weight), want_d_x);
        }
        for (const std::int64_t M :
             {1, 2, 3, 4, 5, 6, 7, 8, 9, 13, 16, 17, 23, 24, 31, 33, 40, 56, 64, 65}) {
          const std::int64_t first = (M * 7) % (kRows - M + 1);
          c.M = M;
          c.shift = M % 2;
          const TestDevice& device = cpu_with_threads()[static_cast<std::size_t>(M) % 3];
          compare_bits(what(device.name + " pre", M),
                       run_forward(device, c, slice(x, first * K, M * K), weight).pre,
                       slice(want.pre, first * N, M * N));
          compare_bits(what(device.name + " d_x", M),
                       run_backward_input(device, c, slice(d_out, first * N, M * N), weight),
                       slice(want_d_x, first * K, M * K));
        }
      }
    }
  }
}

TEST_CASE("sums that vanish below zero have the sign of that row alone") {
  // Each product is far below the smallest float: with fused multiply-adds a sum of such is -0, until
  // something adds +0.
  for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
    for (const std::int64_t K : {1, 33, 129, 200, 385}) {
      constexpr std::int64_t N = 50;
      const std::vector<float> weight(static_cast<std::size_t>(K * N), -0x1p-14f);
      const std::vector<float> x(static_cast<std::size_t>(40 * K), 0x1p-149f);
      for (const TestDevice& device : cpu_with_threads()) {
        ForwardCase c{
            .M = 1, .K = K, .N = N, .layout = WeightLayout::out_in, .dtype = dtype, .bias = false};
        const std::vector<float> alone = run_forward(device, c, slice(x, 0, K), weight).out;
        for (const std::int64_t M : {7, 8, 14, 40}) {
          c.M = M;
          std::vector<float> want;
          for (std::int64_t m = 0; m < M; ++m) want.insert(want.end(), alone.begin(), alone.end());
          compare_bits(join(device.name, name_of(dtype), "M", M, "K", K),
                       run_forward(device, c, slice(x, 0, M * K), weight).out, want);
        }
      }
    }
  }
}

TEST_CASE("a row of a large product has the bits of that row alone") {
  // Rows of two tiles; sums that are packed in two goes; columns of several slabs.
  for (const auto [M, K, N] : {cases::Matmul{530, 300, 150}, {70, 8300, 50}}) {
    const std::vector<float> x = normal(M * K, 75), weight = normal(K * N, 76);
    const std::vector<float> d_out = normal(M * N, 77), pre = normal(M * K, 78, 0.0, 3.0);
    for (const WeightLayout layout : kLayouts) {
      ForwardCase c{.M = M, .K = K, .N = N, .layout = layout, .activation = Activation::gelu_new};
      const TestDevice& two = cpu_with_threads()[1];
      const Forward all = run_forward(two, c, x, weight);
      const std::vector<float> all_d_x = run_backward_input(two, c, d_out, weight, pre);
      c.M = 1;
      for (const std::int64_t row : {std::int64_t{0}, std::min<std::int64_t>(M, 512) - 1, M - 1}) {
        const std::string what = join(name_of(layout), M, K, N, "row", row);
        const Forward alone = run_forward(two, c, slice(x, row * K, K), weight);
        compare_bits(what + " pre", slice(all.pre, row * N, N), alone.pre);
        compare_bits(what + " out", slice(all.out, row * N, N), alone.out);
        compare_bits(
            what + " d_x", slice(all_d_x, row * K, K),
            run_backward_input(two, c, slice(d_out, row * N, N), weight, slice(pre, row * K, K)));
      }
    }
  }
}

TEST_CASE("up to eight rows have the bits of each row alone, and a weight in either layout") {
  for (const TestDevice& device : devices_under_test()) {
    for (const DType dtype : device.types) {
      for (const auto& [K, N] : {std::pair<std::int64_t, std::int64_t>{8, 8},
                                 {264, 40},
                                 {768, 24},
                                 {3072, 16},
                                 {4104, 8}}) {
        constexpr std::int64_t kRows = 8;
        const std::vector<float> x = rounded_to(dtype, normal(kRows * K, 11));
        const std::vector<float> weight = rounded_to(dtype, normal(K * N, 12));
        ForwardCase c{.M = 1,
                      .K = K,
                      .N = N,
                      .dtype = dtype,
                      .activation = Activation::gelu_new,
                      .activations = dtype};
        std::vector<float> alone;
        for (std::int64_t m = 0; m < kRows; ++m) {
          const std::vector<float> row = run_forward(device, c, slice(x, m * K, K), weight).out;
          alone.insert(alone.end(), row.begin(), row.end());
        }
        for (const std::int64_t M : {1, 2, 4, 5, 8}) {
          for (const WeightLayout layout : kLayouts) {
            c.M = M;
            c.layout = layout;
            compare_bits(join(device.name, name_of(dtype), name_of(layout), M, K, N),
                         run_forward(device, c, slice(x, 0, M * K), weight).out,
                         slice(alone, 0, M * N));
          }
          c.M = 1;
          c.layout = WeightLayout::in_out;
        }
      }
    }
  }
}

TEST_CASE(
    "each element of a product is a sum of chains of 128 additions over k, fused where the machine "
    "can") {
  constexpr std::int64_t kPart = 128;
  for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
    for (const WeightLayout layout : kLayouts) {
      for (const auto& [M, K, N] : {cases::Matmul{1, 63, 65},
                                    {3, 300, 20},
                                    {8, 9, 7},
                                    {9, 513, 49},
                                    {33, 1025, 17},
                                    {300, 8200, 3}}) {
        const std::vector<float> x = normal(M * K, 20);
        const std::vector<float> weight = rounded_to(dtype, normal(K * N, 21));
        std::vector<float> fused(static_cast<std::size_t>(M * N)), separate(fused);
        for (std::int64_t m = 0; m < M; ++m) {
          for (std::int64_t n = 0; n < N; ++n) {
            float &f = fused[m * N + n], &s = separate[m * N + n];
            for (std::int64_t first = 0; first < K; first += kPart) {
              float fused_part = 0.0f, separate_part = 0.0f;
              for (std::int64_t k = first; k < std::min(first + kPart, K); ++k) {
                fused_part = std::fma(x[m * K + k], weight[k * N + n], fused_part);
                const volatile float product = x[m * K + k] * weight[k * N + n];
                separate_part = separate_part + product;
              }
              f += fused_part;
              s += separate_part;
            }
          }
        }
        const TestDevice& device = cpu_with_threads()[static_cast<std::size_t>(M) % 3];
        const std::vector<float> got =
            run_forward(device,
                        {.M = M, .K = K, .N = N, .layout = layout, .dtype = dtype, .bias = false},
                        x, weight)
                .out;
        compare_bits(join(device.name, name_of(dtype), name_of(layout), "M", M, "K", K, "N", N),
                     got, got == separate ? separate : fused);
      }
    }
  }
}

TEST_CASE("products in 16 bits agree with their formulas") {
  for (const TestDevice& device : devices_for_products()) {
    for (const DType dtype : device.types) {
      if (dtype == DType::f32) continue;
      std::int64_t turn = 0;
      for (const auto [M, K, N] : {cases::Matmul{1, 1, 1},
                                   {1, 64, 1025},
                                   {1, 300, 72},
                                   {3, 64, 96},
                                   {4, 1025, 8},
                                   {8, 40, 256},
                                   {9, 33, 31},
                                   {33, 48, 257}}) {
        const std::vector<float> x = rounded_to(dtype, normal(M * K, 41));
        const std::vector<float> d_out = rounded_to(dtype, normal(M * N, 42));
        const std::vector<float> weight = rounded_to(dtype, normal(K * N, 43));
        const std::vector<float> old = normal(K * N, 44), bias = normal(N, 23);
        for (const WeightLayout layout : kLayouts) {
          const ForwardCase c{.M = M,
                              .K = K,
                              .N = N,
                              .layout = layout,
                              .dtype = dtype,
                              .activation = kActivations[++turn % 6],
                              .shift = turn % 2,
                              .activations = dtype};
          const std::string what = join("16-bit matmul", device.name, name_of(dtype),
                                        name_of(layout), name_of(c.activation), M, K, N);
          const Doubles product = reference::matmul(widened(x), widened(weight), M, K, N);
          const Doubles size =
              reference::matmul(sizes(widened(x)), sizes(widened(weight)), M, K, N);
          const Forward got = run_forward(device, c, x, weight);
          Doubles pre = product, pre_bound(pre.size()), out(pre.size()), out_bound(pre.size());
          for (std::size_t i = 0; i < pre.size(); ++i) {
            const double b = bias[i % bias.size()];
            pre[i] += b;
            // The bias may be read in the activations' type.
            const double of_sum = (static_cast<double>(K) + 2.0) * kEps * (size[i] + std::abs(b)) +
                                  half_ulp(dtype, std::abs(b));
            pre_bound[i] = stored(dtype, pre[i], of_sum);
            out[i] = reference::activate(c.activation, pre[i]);
            // The activation may be taken of the pre-activation as it is stored.
            out_bound[i] = stored(
                dtype, out[i], kSteepest * pre_bound[i] + activation_bound(c.activation, pre[i]));
          }
          compare(what + " pre", got.pre, pre, pre_bound);
          compare(what + " out", got.out, out, out_bound);

          const Doubles transposed = reference::transposed(widened(weight), K, N);
          const Doubles d_x = reference::matmul(widened(d_out), transposed, M, N, K);
          const Doubles d_x_size =
              reference::matmul(sizes(widened(d_out)), sizes(transposed), M, N, K);
          compare(what + " d_x", run_backward_input(device, c, d_out, weight), d_x,
                  [&, N = N](std::size_t i) {
                    return stored(dtype, d_x[i],
                                  (static_cast<double>(N) + 1.0) * kEps * d_x_size[i]);
                  });

          const Doubles x_transposed = reference::transposed(widened(x), M, K);
          Doubles d_weight = reference::matmul(x_transposed, widened(d_out), K, M, N);
          const Doubles d_weight_size =
              reference::matmul(sizes(x_transposed), sizes(widened(d_out)), K, M, N);
          for (std::size_t i = 0; i < d_weight.size(); ++i) d_weight[i] += old[i];
          const WeightGradients gradients = run_backward_weight(device, c, d_out, x, old);
          compare(what + " d_weight", gradients.d_weight, d_weight, [&, M = M](std::size_t i) {
            return (static_cast<double>(M) + 2.0) * kEps * (d_weight_size[i] + std::abs(old[i]));
          });
          Doubles d_bias = widened(normal(N, 33)), d_bias_size = sizes(d_bias);
          for (std::size_t i = 0; i < d_out.size(); ++i) {
            d_bias[i % d_bias.size()] += d_out[i];
            d_bias_size[i % d_bias.size()] += std::abs(d_out[i]);
          }
          compare(what + " d_bias", gradients.d_bias, d_bias, [&, M = M](std::size_t i) {
            return (static_cast<double>(M) + 2.0) * kEps * d_bias_size[i];
          });
        }
      }
    }
  }
}

TEST_CASE("layernorm_matmul does what residual_layernorm_forward and matmul_forward do") {
  for (const TestDevice& device : devices_for_products()) {
    for (const DType dtype : device.types) {
      for (const auto [M, K, N] : {cases::Matmul{1, 64, 96},
                                   {1, 1032, 40},
                                   {3, 40, 256},
                                   {8, 1200, 8},
                                   {5, 33, 31},
                                   {33, 48, 64}}) {
        const std::vector<float> x = rounded_to(dtype, normal(M * K, 51));
        const std::vector<float> branch = rounded_to(dtype, normal(M * K, 52));
        const std::vector<float> weight = rounded_to(dtype, normal(K * N, 53));
        const std::vector<float> ln_weight = normal(K, 54, 1.0, 0.5), ln_bias = normal(K, 55);
        const std::vector<float> bias = normal(N, 56);
        for (const WeightLayout layout : kLayouts) {
          Stage stage(device.device, join("layernorm_matmul", device.name, name_of(dtype),
                                          name_of(layout), M, K, N));
          Guarded& sum = stage.output({M, K}, dtype);
          Guarded& out = stage.output({M, N}, dtype);
          const Buffer workspace(device.device, static_cast<std::size_t>(M * K) * size_of(dtype));
          const View ln(workspace.data(), dtype, {M, K});
          device.device.layernorm_matmul(
              {.layernorm = {.sum = sum,
                             .out = ln,
                             .x = stage.input(x, {M, K}, dtype),
                             .branch = stage.input(branch, {M, K}, dtype),
                             .weight = stage.input(ln_weight, {K}),
                             .bias = stage.input(ln_bias, {K}),
                             .eps = 1e-5f},
               .matmul = {.out = out,
                          .x = ln,
                          .weight = put_weight(stage, weight, K, N, layout, dtype),
                          .bias = stage.input(bias, {N}),
                          .activation = Activation::gelu_new}});
          std::vector<float> want_sum = x;
          for (std::size_t i = 0; i < x.size(); ++i) want_sum[i] += branch[i];
          want_sum = rounded_to(dtype, want_sum);
          compare_bits(stage.what() + " sum", sum.floats(), want_sum);

          // A normalised element is off by the roundings of the mean, of x - mean, of rstd and of
          // what follows, and by its storing; x here is about as large as its deviation.
          const Doubles normalised =
              reference::layernorm(widened(want_sum), widened(ln_weight), widened(ln_bias), 1e-5)
                  .out;
          Doubles want = reference::matmul(normalised, widened(weight), M, K, N),
                  bound(want.size());
          for (std::int64_t m = 0; m < M; ++m) {
            for (std::int64_t n = 0; n < N; ++n) {
              double size = 0.0, off = 0.0;
              for (std::int64_t k = 0; k < K; ++k) {
                const double value = std::abs(normalised[m * K + k]),
                             w = std::abs(weight[k * N + n]);
                const double before = value + std::abs(ln_bias[k]) + std::abs(ln_weight[k]);
                const double of_norm = (2.0 * static_cast<double>(K) + 8.0) * kEps * before;
                size += value * w;
                off += stored(dtype, value, of_norm) * w;
              }
              const std::int64_t i = m * N + n;
              want[i] += bias[n];
              const double of_pre =
                  off + (static_cast<double>(K) + 2.0) * kEps * (size + std::abs(bias[n])) +
                  half_ulp(dtype, std::abs(bias[n]));
              const double pre = stored(dtype, want[i], of_pre);
              const double value = reference::activate(Activation::gelu_new, want[i]);
              bound[i] = stored(dtype, value,
                                kSteepest * pre + activation_bound(Activation::gelu_new, want[i]));
              want[i] = value;
            }
          }
          compare(stage.what() + " out", out.floats(), want, bound);
        }
      }
    }
  }
}

#include <cmath>

#include "kernels/reference/formulas.h"
#include "tests/support/cases.h"
#include "tests/support/catch.h"
#include "tests/support/compare.h"
#include "tests/support/data.h"
#include "tests/support/devices.h"
#include "tests/support/guarded.h"
#include "tests/support/half_types.h"

using namespace quire;
using namespace quire::test;

namespace {

constexpr float kLayernormEps = 1e-5f;

/// Rows of three kinds in turn: plain, far from zero (where E[x²] - mean² would cancel), constant.
std::vector<float> rows(std::int64_t N, std::int64_t C, std::uint64_t seed) {
  std::vector<float> x = normal(N * C, seed);
  for (std::int64_t n = 0; n < N; ++n) {
    for (std::int64_t c = 0; c < C; ++c) {
      if (n % 3 == 1) x[n * C + c] += 100.0f;
      if (n % 3 == 2) x[n * C + c] = 0.75f;
    }
  }
  return x;
}

struct Bounds {
  Doubles out, mean, rstd;
};

/// The mean is a sum of C terms; each x - mean carries its error and one rounding; the variance is
/// a sum of C squares of those; its root halves the relative error.
Bounds bounds_of(const Doubles& x, const Doubles& weight, const Doubles& bias,
                 const reference::Layernorm& want) {
  const std::size_t C = weight.size();
  const double count = static_cast<double>(C);
  Bounds bounds{Doubles(x.size()), Doubles(want.mean.size()), Doubles(want.mean.size())};
  for (std::size_t n = 0; n < want.mean.size(); ++n) {
    double size = 0.0;
    for (std::size_t c = 0; c < C; ++c) size += std::abs(x[n * C + c]) / count;
    const double of_mean = (count + 2.0) * kEps * size;
    double of_variance = 0.0;
    for (std::size_t c = 0; c < C; ++c) {
      const double centred = std::abs(x[n * C + c] - want.mean[n]);
      const double off = of_mean + kEps * centred;
      of_variance +=
          (2.0 * centred * off + off * off + (count + 2.0) * kEps * centred * centred) / count;
    }
    const double relative = 0.5 * of_variance * want.rstd[n] * want.rstd[n] + 3.0 * kEps;
    bounds.mean[n] = of_mean;
    bounds.rstd[n] = want.rstd[n] * relative;
    for (std::size_t c = 0; c < C; ++c) {
      const double centred = std::abs(x[n * C + c] - want.mean[n]);
      const double product = centred * want.rstd[n] * std::abs(weight[c]);
      bounds.out[n * C + c] =
          product * relative +
          (of_mean + kEps * centred) * want.rstd[n] * (1.0 + relative) * std::abs(weight[c]) +
          4.0 * kEps * (product + std::abs(bias[c]));
    }
  }
  return bounds;
}

struct NormForward {
  std::vector<float> out, mean, rstd;
};

NormForward run_forward(const TestDevice& device, const std::vector<float>& x, std::int64_t N,
                        std::int64_t C, std::int64_t shift = 0, DType dtype = DType::f32) {
  Stage stage(device.device, join("layernorm", device.name, N, C), shift);
  Guarded& out = stage.output({N, C}, dtype);
  Guarded& mean = stage.output({N});
  Guarded& rstd = stage.output({N});
  device.device.layernorm_forward({.out = out,
                                   .mean = mean,
                                   .rstd = rstd,
                                   .x = stage.input(x, {N, C}, dtype),
                                   .weight = stage.input(normal(C, 21, 1.0, 0.5), {C}),
                                   .bias = stage.input(normal(C, 22), {C}),
                                   .eps = kLayernormEps});
  return {out.floats(), mean.floats(), rstd.floats()};
}

struct Backward {
  std::vector<float> d_x, d_weight, d_bias;
};

Backward run_backward(const TestDevice& device, const std::vector<float>& x,
                      const std::vector<float>& d_out, const NormForward& forward,
                      const std::vector<float>& old_d_x, std::int64_t N, std::int64_t C,
                      std::int64_t shift = 0, DType dtype = DType::f32) {
  Stage stage(device.device, join("layernorm_backward", device.name, N, C), shift);
  Guarded& d_x = stage.in_out(old_d_x, {N, C}, dtype);
  Guarded& d_weight = stage.in_out(normal(C, 31), {C});
  Guarded& d_bias = stage.in_out(normal(C, 32), {C});
  device.device.layernorm_backward({.d_x = Accumulate(d_x),
                                    .d_weight = Accumulate(d_weight),
                                    .d_bias = Accumulate(d_bias),
                                    .d_out = stage.input(d_out, {N, C}, dtype),
                                    .x = stage.input(x, {N, C}, dtype),
                                    .weight = stage.input(normal(C, 21, 1.0, 0.5), {C}),
                                    .mean = stage.input(forward.mean, {N}),
                                    .rstd = stage.input(forward.rstd, {N})});
  return {d_x.floats(), d_weight.floats(), d_bias.floats()};
}

}  // namespace

TEST_CASE("layernorm_forward agrees with its formula on every device, in every type") {
  for (const TestDevice& device : devices_under_test()) {
    for (const DType dtype : device.types) {
      for (const auto [N, C] : cases::kLayernorm) {
        const std::vector<float> x = rounded_to(dtype, rows(N, C, 7));
        const Doubles weight = widened(normal(C, 21, 1.0, 0.5)), bias = widened(normal(C, 22));
        const reference::Layernorm want =
            reference::layernorm(widened(x), weight, bias, kLayernormEps);
        Bounds bounds = bounds_of(widened(x), weight, bias, want);
        for (std::size_t i = 0; i < bounds.out.size(); ++i) {
          bounds.out[i] = stored(dtype, want.out[i], bounds.out[i]);
        }
        for (const std::int64_t shift : {0, 1}) {
          const NormForward got = run_forward(device, x, N, C, shift, dtype);
          const std::string what = join("layernorm", device.name, name_of(dtype), "N", N, "C", C);
          compare(what + " out", got.out, want.out, bounds.out);
          compare(what + " mean", got.mean, want.mean, bounds.mean);
          compare(what + " rstd", got.rstd, want.rstd, bounds.rstd);
        }
      }
    }
  }
}

TEST_CASE("residual_layernorm_forward is an addition and a layernorm, to the bit") {
  for (const TestDevice& device : devices_under_test()) {
    for (const auto [N, C] : cases::kLayernorm) {
      const std::vector<float> x = rows(N, C, 8), branch = normal(N * C, 9);
      std::vector<float> want_sum = x;
      for (std::size_t i = 0; i < x.size(); ++i) want_sum[i] += branch[i];
      const NormForward want = run_forward(device, want_sum, N, C);
      for (const bool in_place : {false, true}) {
        Stage stage(device.device, join("residual_layernorm", device.name, N, C, in_place));
        Guarded& first = in_place ? stage.in_out(x, {N, C}) : stage.input(x, {N, C});
        Guarded& sum = in_place ? first : stage.output({N, C});
        Guarded& out = stage.output({N, C});
        Guarded& mean = stage.output({N});
        Guarded& rstd = stage.output({N});
        device.device.residual_layernorm_forward(
            {.sum = sum,
             .out = out,
             .mean = mean,
             .rstd = rstd,
             .x = first,
             .branch = stage.input(branch, {N, C}),
             .weight = stage.input(normal(C, 21, 1.0, 0.5), {C}),
             .bias = stage.input(normal(C, 22), {C}),
             .eps = kLayernormEps});
        compare_bits(stage.what() + " sum", sum.floats(), want_sum);
        compare_bits(stage.what() + " out", out.floats(), want.out);
        compare_bits(stage.what() + " mean", mean.floats(), want.mean);
        compare_bits(stage.what() + " rstd", rstd.floats(), want.rstd);
      }
    }
  }
}

TEST_CASE("residual_layernorm_forward in 16 bits normalises the sum that it stores") {
  for (const TestDevice& device : devices_under_test()) {
    for (const DType dtype : device.types) {
      for (const auto [N, C] : {cases::Rows{2, 33}, {3, 257}, {2, 768}, {1, 2048}}) {
        const std::vector<float> x = rounded_to(dtype, rows(N, C, 8));
        const std::vector<float> branch = rounded_to(dtype, normal(N * C, 9));
        std::vector<float> want_sum = x;
        for (std::size_t i = 0; i < x.size(); ++i) want_sum[i] += branch[i];
        want_sum = rounded_to(dtype, want_sum);
        const NormForward want = run_forward(device, want_sum, N, C, 0, dtype);
        Stage stage(device.device, join("residual_layernorm", device.name, name_of(dtype), N, C));
        Guarded& sum = stage.in_out(x, {N, C}, dtype);
        Guarded& out = stage.output({N, C}, dtype);
        device.device.residual_layernorm_forward(
            {.sum = sum,
             .out = out,
             .x = sum,
             .branch = stage.input(branch, {N, C}, dtype),
             .weight = stage.input(normal(C, 21, 1.0, 0.5), {C}),
             .bias = stage.input(normal(C, 22), {C}),
             .eps = kLayernormEps});
        compare_bits(stage.what() + " sum", sum.floats(), want_sum);
        compare_bits(stage.what() + " out", out.floats(), want.out);
      }
    }
  }
}

TEST_CASE("layernorm takes rows under several leading dimensions, and works without statistics") {
  constexpr std::int64_t B = 2, T = 3, C = 17;
  const std::vector<float> x = rows(B * T, C, 10);
  for (const TestDevice& device : devices_under_test()) {
    const NormForward want = run_forward(device, x, B * T, C);
    Stage stage(device.device, "layernorm without statistics " + device.name);
    Guarded& out = stage.output({B, T, C});
    Guarded& weight = stage.input(normal(C, 21, 1.0, 0.5), {C});
    Guarded& bias = stage.input(normal(C, 22), {C});
    device.device.layernorm_forward(
        {.out = out, .x = stage.input(x, {B, T, C}), .weight = weight, .bias = bias});
    compare_bits(stage.what(), out.floats(), want.out);
    Guarded& sum = stage.output({B, T, C});
    Guarded& residual = stage.output({B, T, C});
    device.device.residual_layernorm_forward(
        {.sum = sum,
         .out = residual,
         .x = stage.input(x, {B, T, C}),
         .branch = stage.input(std::vector<float>(x.size(), 0.0f), {B, T, C}),
         .weight = weight,
         .bias = bias});
    compare_bits(stage.what() + " residual", residual.floats(), want.out);
  }
}

TEST_CASE("layernorm_backward agrees with its formula on every device, in every type") {
  for (const TestDevice& device : devices_under_test()) {
    for (const DType dtype : device.types) {
      for (const auto [N, C] : cases::kLayernorm) {
        const double count = static_cast<double>(C), height = static_cast<double>(N);
        const std::vector<float> x = rounded_to(dtype, rows(N, C, 11));
        const std::vector<float> d_out = rounded_to(dtype, normal(N * C, 12));
        const std::vector<float> old = rounded_to(dtype, normal(N * C, 13));
        const NormForward forward =
            run_forward(device, x, N, C, 0, dtype);  // the device's own statistics
        const Doubles weight = widened(normal(C, 21, 1.0, 0.5));
        reference::LayernormGradients want = reference::layernorm_gradients(
            widened(d_out), widened(x), weight, widened(forward.mean), widened(forward.rstd));
        Doubles of_d_x(x.size()), of_weight(C), of_bias(C);
        for (std::int64_t n = 0; n < N; ++n) {
          double size_g = 0.0, size_gn = 0.0;
          const auto g = [&, C = C](std::int64_t c) {
            return std::abs(d_out[n * C + c] * weight[c]);
          };
          const auto normalised = [&, C = C](std::int64_t c) {
            return std::abs((static_cast<double>(x[n * C + c]) - forward.mean[n]) *
                            forward.rstd[n]);
          };
          for (std::int64_t c = 0; c < C; ++c) {
            size_g += g(c) / count;
            size_gn += g(c) * normalised(c) / count;
            of_weight[c] += (height + 5.0) * kEps * std::abs(d_out[n * C + c]) * normalised(c);
            of_bias[c] += (height + 2.0) * kEps * std::abs(d_out[n * C + c]);
          }
          for (std::int64_t c = 0; c < C; ++c) {
            const std::int64_t i = n * C + c;
            of_d_x[i] =
                (count + 8.0) * kEps * forward.rstd[n] * (g(c) + size_g + normalised(c) * size_gn) +
                2.0 * kEps * std::abs(old[i]);
            want.d_x[i] += old[i];
            of_d_x[i] = stored(dtype, want.d_x[i], of_d_x[i]);
          }
        }
        const std::vector<float> old_weight = normal(C, 31), old_bias = normal(C, 32);
        for (std::int64_t c = 0; c < C; ++c) {
          want.d_weight[c] += old_weight[c];
          want.d_bias[c] += old_bias[c];
          of_weight[c] += (height + 2.0) * kEps * std::abs(old_weight[c]);
          of_bias[c] += (height + 2.0) * kEps * std::abs(old_bias[c]);
        }
        for (const std::int64_t shift : {0, 1}) {
          const Backward got = run_backward(device, x, d_out, forward, old, N, C, shift, dtype);
          const std::string what =
              join("layernorm_backward", device.name, name_of(dtype), "N", N, "C", C);
          compare(what + " d_x", got.d_x, want.d_x, of_d_x);
          compare(what + " d_weight", got.d_weight, want.d_weight, of_weight);
          compare(what + " d_bias", got.d_bias, want.d_bias, of_bias);
        }
      }
    }
  }
}

TEST_CASE("layernorm_backward with frozen parameters gives the same d_x") {
  constexpr std::int64_t N = 5, C = 33;
  const std::vector<float> x = rows(N, C, 14), d_out = normal(N * C, 15), old = normal(N * C, 16);
  for (const TestDevice& device : devices_under_test()) {
    const NormForward forward = run_forward(device, x, N, C);
    const Backward want = run_backward(device, x, d_out, forward, old, N, C);
    Stage stage(device.device, "layernorm_backward frozen " + device.name);
    Guarded& d_x = stage.in_out(old, {N, C});
    device.device.layernorm_backward({.d_x = Accumulate(d_x),
                                      .d_out = stage.input(d_out, {N, C}),
                                      .x = stage.input(x, {N, C}),
                                      .weight = stage.input(normal(C, 21, 1.0, 0.5), {C}),
                                      .mean = stage.input(forward.mean, {N}),
                                      .rstd = stage.input(forward.rstd, {N})});
    compare_bits(stage.what(), d_x.floats(), want.d_x);
  }
}

TEST_CASE("layernorm's rows do not depend on other rows nor on the number of threads") {
  const TestDevice& one = cpu_with_threads().front();
  for (const auto [N, C] : {cases::Rows{65, 40}, {257, 20}, {33, 129}, {40, 768}}) {
    const std::vector<float> x = rows(N, C, 17), d_out = normal(N * C, 18), old = normal(N * C, 19);
    const NormForward want = run_forward(one, x, N, C);
    const Backward want_back = run_backward(one, x, d_out, want, old, N, C);
    for (const TestDevice& device : cpu_with_threads()) {
      const std::string what = join("layernorm", device.name, N, C);
      const NormForward got = run_forward(device, x, N, C);
      compare_bits(what + " out", got.out, want.out);
      compare_bits(what + " rstd", got.rstd, want.rstd);
      const Backward back = run_backward(device, x, d_out, want, old, N, C);
      compare_bits(what + " d_x", back.d_x, want_back.d_x);
      compare_bits(what + " d_weight", back.d_weight, want_back.d_weight);
      compare_bits(what + " d_bias", back.d_bias, want_back.d_bias);
    }
    for (const std::int64_t n : {std::int64_t{0}, N / 2, N - 1}) {
      const std::vector<float> row = slice(x, n * C, C);
      const NormForward alone = run_forward(one, row, 1, C);
      compare_bits(join("layernorm row", n, "of", N, C), alone.out, slice(want.out, n * C, C));
      const Backward back =
          run_backward(one, row, slice(d_out, n * C, C), alone, slice(old, n * C, C), 1, C);
      compare_bits(join("layernorm_backward row", n, "of", N, C), back.d_x,
                   slice(want_back.d_x, n * C, C));
    }
  }
}

TEST_CASE("finite differences agree with the gradients of layernorm") {
  for (const auto [N, C] : {cases::Rows{1, 1}, {2, 2}, {3, 7}, {2, 16}}) {
    const Doubles x = widened(normal(N * C, 1)), weight = widened(normal(C, 2, 1.0, 0.5));
    const Doubles bias = widened(normal(C, 3));
    const std::vector<float> d_out = normal(N * C, 4);
    const reference::Layernorm at = reference::layernorm(x, weight, bias, kLayernormEps);
    const reference::LayernormGradients gradients =
        reference::layernorm_gradients(widened(d_out), x, weight, at.mean, at.rstd);
    const auto loss = [&](const Doubles& a, const Doubles& b, const Doubles& c) {
      return weighted(reference::layernorm(a, b, c, kLayernormEps).out, d_out);
    };
    const std::string what = join("layernorm", N, C);
    compare_gradient(what + " d_x", gradients.d_x, x,
                     [&](const Doubles& a) { return loss(a, weight, bias); });
    compare_gradient(what + " d_weight", gradients.d_weight, weight,
                     [&](const Doubles& a) { return loss(x, a, bias); });
    compare_gradient(what + " d_bias", gradients.d_bias, bias,
                     [&](const Doubles& a) { return loss(x, weight, a); });
  }
}

// Ops that work on rows or on elements alone.
#include <algorithm>

#include "verify/trial.h"

namespace quire::verify {
namespace {

constexpr float kLayernormEps = 1e-5f;

std::string rows_text(std::int64_t N, std::int64_t C) {
  return fmt::format("{} rows of {}", N, C);
}

void embedding(Bench& bench, DType dtype, std::int64_t B, std::int64_t T, std::int64_t C) {
  constexpr std::int64_t V = 50, P = 40;
  std::vector<std::int32_t> places;
  for (std::int64_t i = 0; i < B * T; ++i) places.push_back(static_cast<std::int32_t>(i % T));
  {
    Trial t(bench, "embedding_forward", rows_text(B * T, C), dtype);
    const Tensor out = t.output({B, T, C}), wte = t.input({V, C}), wpe = t.input({P, C});
    const Tensor ids = t.integers({B, T}, integers(B * T, 1, V)), at = t.integers({B, T}, places);
    t.run_all([&](const Side& s) {
      s.device.embedding_forward({.out = out(s),
                                  .ids = ids(s),
                                  .positions = at(s),
                                  .wte = {wte(s), WeightLayout::out_in},
                                  .wpe = wpe(s)});
    });
    t.compare(out,
              [&](std::size_t i) { return stored(dtype, t.want(out, i), kEps * t.size(out, i)); });
  }
  Trial t(bench, "embedding_backward", rows_text(B * T, C), dtype);
  const Tensor d_wte = t.in_out_in(DType::f32, {V, C}), d_wpe = t.in_out_in(DType::f32, {P, C});
  const Tensor d_out = t.input({B, T, C});
  const Tensor ids = t.integers({B, T}, integers(B * T, 1, V / 4)), at = t.integers({B, T}, places);
  t.run_all([&](const Side& s) {
    s.device.embedding_backward({.d_wte = Accumulate{d_wte(s)},
                                 .d_wpe = Accumulate{d_wpe(s)},
                                 .d_out = d_out(s),
                                 .ids = ids(s),
                                 .positions = at(s)});
  });
  for (const Tensor& table : {d_wte, d_wpe}) {  // B·T terms at most
    t.compare(table, [&](std::size_t i) { return 2.0 * real(B * T) * kEps * t.size(table, i); });
  }
}

/// The mean is a sum of C terms; each x - mean carries its error and one rounding; the variance is
/// a sum of C squares of those; its root halves the relative error.
/// All of it twice, for both devices.
struct LayernormBounds {
  std::vector<double> out, mean, rstd;

  LayernormBounds(const std::vector<float>& x, const std::vector<float>& weight,
                  const std::vector<float>& bias) {
    const std::size_t C = weight.size();
    const double count = static_cast<double>(C);
    for (std::size_t row = 0; row < x.size(); row += C) {
      double average = 0, size = 0, squares = 0, furthest = 0;
      for (std::size_t c = 0; c < C; ++c) average += double{x[row + c]} / count;
      for (std::size_t c = 0; c < C; ++c) {
        const double centred = std::abs(x[row + c] - average);
        size += std::abs(double{x[row + c]}) / count;
        squares += centred * centred / count;
        furthest = std::max(furthest, centred);
      }
      const double scale = 1.0 / std::sqrt(squares + kLayernormEps);
      const double of_mean = (count + 2.0) * kEps * size, off = of_mean + kEps * furthest;
      const double of_squares =
          2.0 * std::sqrt(squares) * off + off * off + (count + 2.0) * kEps * squares;
      const double relative = 0.5 * of_squares * scale * scale + 3.0 * kEps;
      mean.push_back(2.0 * of_mean);
      rstd.push_back(2.0 * scale * relative);
      for (std::size_t c = 0; c < C; ++c) {
        const double w = std::abs(double{weight[c]}) * scale;
        const double product = std::abs(x[row + c] - average) * w;
        out.push_back(2.0 * (product * relative + off * w * (1.0 + relative) +
                             4.0 * kEps * (product + std::abs(double{bias[c]}))));
      }
    }
  }
};

void compare_layernorm(Trial& t, const Tensor& x, const Tensor& weight, const Tensor& bias,
                       const Tensor& out, const Tensor& mean, const Tensor& rstd) {
  const LayernormBounds bounds(t.host(x, Side::trusted), t.host(weight, Side::trusted),
                               t.host(bias, Side::trusted));
  t.compare(out, [&](std::size_t i) { return stored(t.dtype(), t.want(out, i), bounds.out[i]); });
  t.compare(
      mean, [&](std::size_t i) { return bounds.mean[i]; }, "mean");
  t.compare(
      rstd, [&](std::size_t i) { return bounds.rstd[i]; }, "rstd");
}

void layernorm_forward(Bench& bench, DType dtype, std::int64_t N, std::int64_t C) {
  Trial t(bench, "layernorm_forward", rows_text(N, C), dtype);
  const Tensor out = t.output({N, C}), mean = t.output({N}, DType::f32),
               rstd = t.output({N}, DType::f32), x = t.input({N, C}),
               weight = t.input_in(DType::f32, {C}), bias = t.input_in(DType::f32, {C});
  t.run([&](const Side& s) {
    s.device.layernorm_forward({.out = out(s),
                                .mean = mean(s),
                                .rstd = rstd(s),
                                .x = x(s),
                                .weight = weight(s),
                                .bias = bias(s),
                                .eps = kLayernormEps});
  });
  compare_layernorm(t, x, weight, bias, out, mean, rstd);
}

void residual_layernorm(Bench& bench, DType dtype, std::int64_t N, std::int64_t C) {
  // Whole numbers: their sum is exact, and what is normalised the same on both.
  Trial t(bench, "residual_layernorm_forward", rows_text(N, C), dtype);
  const Tensor sum = t.output({N, C}), out = t.output({N, C}), mean = t.output({N}, DType::f32),
               rstd = t.output({N}, DType::f32), x = t.input({N, C}, whole_numbers(N * C, 1)),
               branch = t.input({N, C}, whole_numbers(N * C, 2)),
               weight = t.input_in(DType::f32, {C}), bias = t.input_in(DType::f32, {C});
  t.run([&](const Side& s) {
    s.device.residual_layernorm_forward({.sum = sum(s),
                                         .out = out(s),
                                         .mean = mean(s),
                                         .rstd = rstd(s),
                                         .x = x(s),
                                         .branch = branch(s),
                                         .weight = weight(s),
                                         .bias = bias(s),
                                         .eps = kLayernormEps});
  });
  t.compare(
      sum, [](std::size_t) { return 0.0; }, "sum");
  compare_layernorm(t, sum, weight, bias, out, mean, rstd);
}

void layernorm_backward(Bench& bench, DType dtype, std::int64_t N, std::int64_t C) {
  Trial t(bench, "layernorm_backward", rows_text(N, C), dtype);
  const Tensor d_x = t.in_out({N, C}), d_weight = t.in_out_in(DType::f32, {C}),
               d_bias = t.in_out_in(DType::f32, {C}), d_out = t.input({N, C}), x = t.input({N, C}),
               weight = t.input_in(DType::f32, {C});
  const Tensor mean = t.input({N}, uniform(N, 3, -0.1f, 0.1f), DType::f32),
               rstd = t.input({N}, uniform(N, 4, 0.9f, 1.1f), DType::f32);
  const std::vector<float> old = t.host(d_x, Side::sizes);
  t.forget();
  t.run([&](const Side& s) {
    s.device.layernorm_backward({.d_x = Accumulate{d_x(s)},
                                 .d_weight = Accumulate{d_weight(s)},
                                 .d_bias = Accumulate{d_bias(s)},
                                 .d_out = d_out(s),
                                 .x = x(s),
                                 .weight = weight(s),
                                 .mean = mean(s),
                                 .rstd = rstd(s)});
  });
  // Products of two or three factors, sums of C and of N of them.
  const double width = real(C), height = real(N);
  const auto row_of = [C](std::size_t i) { return i / C; };
  const auto n = [&](std::size_t i) {
    return std::abs((t.want(x, i) - t.want(mean, row_of(i))) * t.want(rstd, row_of(i)));
  };
  const auto g = [&](std::size_t i) { return std::abs(t.want(d_out, i) * t.want(weight, i % C)); };
  std::vector<double> of_weight(C), of_bias(of_weight.size()), size_g(static_cast<std::size_t>(N)),
      size_gn(size_g.size());
  for (std::size_t i = 0; i < old.size(); ++i) {
    size_g[row_of(i)] += g(i) / width;
    size_gn[row_of(i)] += g(i) * n(i) / width;
    of_weight[i % of_weight.size()] += std::abs(t.want(d_out, i)) * n(i);
    of_bias[i % of_bias.size()] += std::abs(t.want(d_out, i));
  }
  t.compare(d_x, [&](std::size_t i) {
    const double terms = g(i) + size_g[row_of(i)] + n(i) * size_gn[row_of(i)];
    return stored(dtype, t.want(d_x, i),
                  2.0 * ((width + 8.0) * kEps * t.want(rstd, row_of(i)) * terms +
                         2.0 * kEps * (old[i] + std::abs(t.want(d_x, i)))));
  });
  // What was there before counts too: it is no larger than what is there and the sum together.
  const auto of_parameter = [&](const Tensor& d, const std::vector<double>& sizes) {
    t.compare(
        d,
        [&](std::size_t c) {
          return 2.0 * (height + 6.0) * kEps * (2.0 * sizes[c] + std::abs(t.want(d, c)));
        },
        "of a parameter");
  };
  of_parameter(d_weight, of_weight);
  of_parameter(d_bias, of_bias);
}

void layernorm(Bench& bench, DType dtype, std::int64_t N, std::int64_t C) {
  layernorm_forward(bench, dtype, N, C);
  residual_layernorm(bench, dtype, N, C);
  layernorm_backward(bench, dtype, N, C);
}

void activation(Bench& bench, DType dtype, Activation which, std::int64_t count) {
  const std::string text = fmt::format("activation {} of {}", static_cast<int>(which), count);
  {
    Trial t(bench, "activation_forward", text, dtype);
    const Tensor out = t.output({count}), x = t.input({count}, normal(count, 1, 3.0f));
    t.run([&](const Side& s) {
      s.device.activation_forward({.out = out(s), .x = x(s), .activation = which});
    });
    t.compare(out, [&](std::size_t i) {
      return stored(dtype, t.want(out, i), 2.0 * activation_bound(which, t.want(x, i)));
    });
  }
  Trial t(bench, "activation_backward", text, dtype);
  const Tensor d_x = t.output({count}), d_out = t.input({count}),
               x = t.input({count}, normal(count, 2, 3.0f));
  t.run([&](const Side& s) {
    s.device.activation_backward(
        {.d_x = d_x(s), .d_out = d_out(s), .x = x(s), .activation = which});
  });
  t.compare(d_x, [&](std::size_t i) {
    const double slope = activation_slope_bound(which, t.want(x, i));
    return stored(dtype, t.want(d_x, i),
                  2.0 * (std::abs(t.want(d_out, i)) * slope + kEps * std::abs(t.want(d_x, i))));
  });
}

void dropout(Bench& bench, DType dtype, std::int64_t count) {
  Trial t(bench, "dropout", std::to_string(count), dtype);
  const Tensor out = t.output({count}), x = t.input({count});
  t.run([&](const Side& s) {
    s.device.dropout({.out = out(s), .x = x(s), .p = 0.3f, .key = {.seed = 4, .stream = 9}});
  });
  // Which elements stay is the same; those are multiplied once.
  t.compare(out, [&](std::size_t i) {
    return t.want(out, i) == 0.0
               ? 0.0
               : stored(dtype, t.want(out, i), 2.0 * kEps * std::abs(t.want(out, i)));
  });
}

/// The sum of V exponentials is off by V roundings and its terms by a few; its logarithm turns that
/// into an absolute error. Then come the roundings of the numbers that are added and subtracted.
void cross_entropy(Bench& bench, DType dtype, std::int64_t N, std::int64_t V) {
  constexpr float kScale = 0.37f;
  std::vector<std::int32_t> targets = integers(N, 41, V);
  for (std::size_t n = 1; n < targets.size(); n += 5) targets[n] = kIgnoredTarget;
  const auto of_lse = [V](double size) {
    return 2.0 * ((real(V) + 8.0) * kEps + 4.0 * kEps * (2.0 * size + std::log(real(V))));
  };
  const std::vector<float> numbers = normal(N * V, 5, 2.5f);
  const double most = largest(numbers);
  const double of_loss = of_lse(most) + 8.0 * kEps * (2.0 * most + std::log(real(V)));
  {
    Trial t(bench, "cross_entropy_forward", rows_text(N, V), dtype);
    const Tensor losses = t.output({N}, DType::f32), logits = t.input({N, V}, numbers),
                 at = t.integers({N}, targets);
    t.run([&](const Side& s) {
      s.device.cross_entropy_forward({.losses = losses(s), .logits = logits(s), .targets = at(s)});
    });
    t.compare(losses, [&](std::size_t) { return of_loss; });
  }
  Trial t(bench, "cross_entropy_backward", rows_text(N, V), dtype);
  const Tensor losses = t.output({N}, DType::f32), both = t.input({N, V}, numbers),
               at = t.integers({N}, targets);
  t.run([&](const Side& s) {
    s.device.cross_entropy_backward(
        {.losses = losses(s), .logits_to_grads = both(s), .targets = at(s), .scale = kScale});
  });
  t.compare(
      losses, [&](std::size_t) { return of_loss; }, "losses");
  t.compare(
      both, [&](std::size_t i) {  // scale·(p - 1 or 0), p off by of_lse and the exponential's own
        const std::size_t n = i / V;
        const bool hit = targets[n] == static_cast<std::int32_t>(i % V);
        const double got = std::abs(t.want(both, i)), p = got / kScale + (hit ? 1.0 : 0.0);
        return stored(
            dtype, got,
            kScale * ((of_lse(most) + 8.0 * kEps * (most + 1.0)) * p + (hit ? 8.0 * kEps : 0.0)) +
                0x1p-126);
      });
}

}  // namespace

void verify_rows(Bench& bench) {
  for (const DType dtype : types_of(bench.tested)) {
    // Rows of whole vectors and others, kept in registers and not.
    for (const auto& [N, C] : {std::pair<std::int64_t, std::int64_t>{3, 33}, {5, 64}, {4, 768}}) {
      embedding(bench, dtype, 2, N, C);
      layernorm(bench, dtype, N, C);
    }
    layernorm(bench, dtype, 2, 1800);
    for (const Activation which : {Activation::gelu_new, Activation::gelu, Activation::relu,
                                   Activation::silu, Activation::tanh}) {
      activation(bench, dtype, which, 515);
      activation(bench, dtype, which, 1024);
    }
    for (const std::int64_t count : {1024, 777}) dropout(bench, dtype, count);
    for (const auto& [N, V] :
         {std::pair<std::int64_t, std::int64_t>{5, 257}, {4, 1024}, {2, 50257}}) {
      cross_entropy(bench, dtype, N, V);
    }
  }
}

}  // namespace quire::verify

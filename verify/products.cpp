// Products, and what a device may do in the same pass.
#include "verify/trial.h"

namespace quire::verify {
namespace {

struct Shape3 {
  std::int64_t M, K, N;
};
// Rows for the kernels of decoding (up to 8) and for the library; whole vectors and others.
constexpr Shape3 kShapes[] = {{1, 64, 96},  {3, 65, 33},   {8, 768, 64},  {16, 64, 128},
                              {40, 96, 72}, {33, 129, 20}, {130, 64, 264}};

std::string text_of(const Shape3& s, WeightLayout layout) {
  return fmt::format("{} x {} x {} {}", s.M, s.K, s.N,
                     layout == WeightLayout::in_out ? "[K, N]" : "[N, K]");
}

Shape weight_shape(const Shape3& s, WeightLayout layout) {
  return layout == WeightLayout::in_out ? Shape{s.K, s.N} : Shape{s.N, s.K};
}

/// A sum of `terms` products, on both devices.
double of_sum(double terms, double size) {
  return 2.0 * (terms + 2.0) * kEps * size;
}

void forward(Bench& bench, DType dtype, const Shape3& shape, WeightLayout layout,
             Activation activation) {
  const std::int64_t M = shape.M, K = shape.K, N = shape.N;  // Clang 14 captures no bindings
  Trial t(bench, "matmul_forward", text_of(shape, layout), dtype);
  const Tensor out = t.output({M, N}), pre = t.output({M, N}), x = t.input({M, K}),
               weight = t.input(weight_shape(shape, layout)), bias = t.input_in(DType::f32, {N});
  t.run_all([&](const Side& s) {
    s.device.matmul_forward({.out = out(s),
                             .pre_activation = pre(s),
                             .x = x(s),
                             .weight = {weight(s), layout},
                             .bias = bias(s),
                             .activation = s.kind == Side::sizes ? Activation::none : activation});
  });
  // The bias may be rounded to the type of the output first.
  const auto of_pre = [&](std::size_t i) {
    const double b = std::abs(t.want(bias, i % N));
    return stored(dtype, t.want(pre, i), of_sum(real(K), t.size(pre, i)) + half_ulp(dtype, b));
  };
  t.compare(pre, of_pre, "before the activation");
  t.compare(out, [&](std::size_t i) {
    return stored(dtype, t.want(out, i),
                  kSteepest * of_pre(i) + 2.0 * activation_bound(activation, t.want(pre, i)));
  });
}

void float_out(Bench& bench, DType dtype, const Shape3& shape) {
  const std::int64_t M = shape.M, K = shape.K, N = shape.N;
  Trial t(bench, "matmul_forward", text_of(shape, WeightLayout::out_in) + " into float32", dtype);
  const Tensor out = t.output({M, N}, DType::f32), x = t.input({M, K}),
               weight = t.input(weight_shape(shape, WeightLayout::out_in));
  t.run_all([&](const Side& s) {
    s.device.matmul_forward(
        {.out = out(s), .x = x(s), .weight = {weight(s), WeightLayout::out_in}});
  });
  t.compare(out, [&](std::size_t i) { return of_sum(real(K), t.size(out, i)); });
}

void backward_input(Bench& bench, DType dtype, const Shape3& shape, WeightLayout layout,
                    Activation activation) {
  const std::int64_t M = shape.M, K = shape.K, N = shape.N;
  Trial t(bench, "matmul_backward_input", text_of(shape, layout), dtype);
  const Tensor d_x = t.output({M, K}), plain = t.output({M, K}, DType::f32),
               d_out = t.input({M, N}), weight = t.input(weight_shape(shape, layout)),
               pre = t.input({M, K});
  t.run([&](const Side& s) {
    s.device.matmul_backward_input(
        {.d_x = d_x(s),
         .d_out = d_out(s),
         .weight = {weight(s), layout},
         .pre_activation = activation == Activation::none ? ConstView{} : ConstView{pre(s)},
         .activation = activation});
  });
  const auto product = [&](const Side& s) {  // before the slope, on the trusted device
    s.device.matmul_backward_input(
        {.d_x = plain(s), .d_out = d_out(s), .weight = {weight(s), layout}});
  };
  t.run_trusted(product);
  t.run_sizes(product);
  t.compare(d_x, [&](std::size_t i) {
    // The product may be stored before the slope is taken.
    const double of_product = stored(dtype, t.want(plain, i), of_sum(real(N), t.size(plain, i)));
    const double of_slope = 2.0 * activation_slope_bound(activation, t.want(pre, i));
    const double slope = activation == Activation::none ? 1.0 : kSteepest;
    return stored(dtype, t.want(d_x, i),
                  of_product * (slope + of_slope) + std::abs(t.want(plain, i)) * of_slope +
                      2.0 * kEps * std::abs(t.want(d_x, i)));
  });
}

void backward_weight(Bench& bench, DType dtype, const Shape3& shape, WeightLayout layout) {
  const std::int64_t M = shape.M, K = shape.K, N = shape.N;
  Trial t(bench, "matmul_backward_weight", text_of(shape, layout), dtype);
  const Tensor d_weight = t.in_out_in(DType::f32, weight_shape(shape, layout)),
               d_bias = t.in_out_in(DType::f32, {N}), d_out = t.input({M, N}), x = t.input({M, K});
  t.run_all([&](const Side& s) {
    s.device.matmul_backward_weight({.d_weight = {{d_weight(s), layout}},
                                     .d_bias = Accumulate{d_bias(s)},
                                     .d_out = d_out(s),
                                     .x = x(s)});
  });
  t.compare(d_weight, [&](std::size_t i) { return of_sum(real(M), t.size(d_weight, i)); });
  t.compare(
      d_bias, [&](std::size_t i) { return of_sum(real(M), t.size(d_bias, i)); }, "bias");
}

void add(Bench& bench, DType dtype, const Shape3& shape, WeightLayout layout) {
  const std::int64_t M = shape.M, K = shape.K, N = shape.N;
  Trial t(bench, "matmul_add", text_of(shape, layout), dtype);
  const Tensor out = t.in_out({M, N}), x = t.input({M, K}),
               weight = t.input(weight_shape(shape, layout));
  t.run_all([&](const Side& s) {
    s.device.matmul_add(
        {.out = Accumulate{out(s)}, .x = x(s), .weight = {weight(s), layout}, .scale = 0.7f});
  });
  t.compare(out, [&](std::size_t i) {
    return stored(dtype, t.want(out, i), of_sum(real(K) + 1.0, t.size(out, i)));
  });
}

/// Whole numbers go in, so that what is normalised is the same on both; what is multiplied is then
/// off by what LayernormMatmul's first half may be off by, at most sqrt(C)·|weight| in size.
void layernorm_matmul(Bench& bench, DType dtype, std::int64_t M, std::int64_t C, std::int64_t N) {
  Trial t(bench, "layernorm_matmul", fmt::format("{} rows of {}", M, C), dtype);
  const Tensor sum = t.output({M, C}), normal_rows = t.output({M, C}), out = t.output({M, N}),
               x = t.input({M, C}, whole_numbers(M * C, 1)),
               branch = t.input({M, C}, whole_numbers(M * C, 2)),
               gain = t.input({C}, uniform(C, 3, 0.5f, 1.5f), DType::f32),
               shift = t.input_in(DType::f32, {C}), weight = t.input({C, N}),
               bias = t.input_in(DType::f32, {N});
  const auto second = [&](const Side& s) {
    return MatmulForward{.out = out(s),
                         .x = normal_rows(s),
                         .weight = {weight(s), WeightLayout::in_out},
                         .bias = bias(s)};
  };
  t.run([&](const Side& s) {
    s.device.layernorm_matmul({.layernorm = {.sum = sum(s),
                                             .out = normal_rows(s),
                                             .x = x(s),
                                             .branch = branch(s),
                                             .weight = gain(s),
                                             .bias = shift(s)},
                               .matmul = second(s)});
  });
  // Rows of spread 4.6 at least: mean, variance and root are off by (3C + 12)·eps of the size of a
  // normalised number, which is at most 4 here, times a gain of 1.5, beside the shift.
  t.compare(
      sum, [](std::size_t) { return 0.0; }, "sum");
  for (std::int64_t m = 0; m < M; ++m) {
    for (std::int64_t n = 0; n < N; ++n) {
      double off = 0, size = std::abs(t.want(bias, static_cast<std::size_t>(n)));
      for (std::int64_t c = 0; c < C; ++c) {
        const double w = std::abs(t.want(weight, static_cast<std::size_t>(c * N + n)));
        const double of_x = std::abs(t.want(normal_rows, static_cast<std::size_t>(m * C + c)));
        const double of_shift = std::abs(t.want(shift, static_cast<std::size_t>(c)));
        off += w * stored(dtype, of_x, 2.0 * (3.0 * real(C) + 12.0) * kEps * (6.0 + of_shift));
        size += w * of_x;
      }
      const std::size_t i = static_cast<std::size_t>(m * N + n);
      const double of_bias = half_ulp(dtype, std::abs(t.want(bias, static_cast<std::size_t>(n))));
      t.compare(
          out,
          [&](std::size_t) {
            return stored(dtype, t.want(out, i), off + of_bias + of_sum(real(C), size));
          },
          "", i, 1);
    }
  }
}

}  // namespace

void verify_products(Bench& bench) {
  for (const DType dtype : types_of(bench.tested)) {
    int turn = 0;
    for (const Shape3& shape : kShapes) {
      for (const WeightLayout layout : {WeightLayout::in_out, WeightLayout::out_in}) {
        const Activation activation = ++turn % 3 == 0 ? Activation::none : Activation::gelu_new;
        forward(bench, dtype, shape, layout, activation);
        backward_input(bench, dtype, shape, layout, activation);
        backward_weight(bench, dtype, shape, layout);
        add(bench, dtype, shape, layout);
      }
      float_out(bench, dtype, shape);
    }
    for (const std::int64_t M : {1, 5}) layernorm_matmul(bench, dtype, M, 64, 96);
  }
}

}  // namespace quire::verify

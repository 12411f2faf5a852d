#include <fmt/format.h>

#include "bench/case_dimensions.h"
#include "kernels/quantised.h"

namespace quire {
namespace {

struct Product {
  const char* name;
  std::int64_t M, K, N;
  WeightLayout layout = WeightLayout::in_out;
  Activation activation = Activation::none;  // with one, the pre-activation is written too
  bool is_head = false;                      // no bias
  Activation of_x = Activation::none;  // what x was taken through: backward goes on through it

  Shape shape() const { return layout == WeightLayout::in_out ? Shape{K, N} : Shape{N, K}; }
  Weight weight(Operands& o, DType type) const {
    return {o.random(type, shape(), kWeights), layout};
  }
  double x() const { return real(M) * real(K); }
  double w() const { return real(K) * real(N); }
  double out() const { return real(M) * real(N); }
  double flops() const { return 2 * real(M) * w(); }
};

void add_forward(Cases& cases, const Dimensions& d, const Product& s) {
  const bool activates = s.activation != Activation::none;
  // x, weight, out and, before an activation, the pre-activation; 8 flops for gelu_new.
  const double bytes = d.e * (s.x() + s.w() + (activates ? 2 : 1) * s.out());
  add(cases, fmt::format("matmul_forward/{}", s.name), bytes,
      s.flops() + (activates ? 8 * s.out() : 0), &Device::matmul_forward, [=](Operands& o) {
        MatmulForward p{.out = o.output(d.type, {s.M, s.N}),
                        .x = o.random(d.type, {s.M, s.K}),
                        .weight = s.weight(o, d.type),
                        .activation = s.activation,
                        .multiply = d.multiply};
        if (!s.is_head) p.bias = o.random(DType::f32, {s.N}, kWeights);
        if (activates) p.pre_activation = o.output(d.type, {s.M, s.N});
        return p;
      });
}

/// With a weight in blocks, whose bytes may be any: float16 noise has scales that are finite.
void add_in_blocks(Cases& cases, const Dimensions& d, const Product& s) {
  for (const WeightFormat format : {WeightFormat::q8_0, WeightFormat::q4_0}) {
    const auto packed = static_cast<std::int64_t>(packed_bytes(format, s.N, s.K));
    add(cases, fmt::format("matmul_forward/{}_{}", s.name, name_of(format)),
        d.e * (s.x() + s.out()) + real(packed), s.flops(), &Device::matmul_forward,
        [=](Operands& o) {
          const View bytes = o.random(DType::f16, {packed / 2}, kWeights);
          return MatmulForward{.out = o.output(d.type, {s.M, s.N}),
                               .x = o.random(d.type, {s.M, s.K}),
                               .weight = {bytes.bytes(), format, WeightLayout::out_in, {s.N, s.K}}};
        });
  }
}

void add_backward(Cases& cases, const Dimensions& d, const Product& s) {
  // d_out, weight, d_x and, through an activation, what it was taken of; 16 flops for gelu_new.
  const bool activates = s.of_x != Activation::none;
  add(cases, fmt::format("matmul_backward_input/{}", s.name),
      d.e * ((activates ? 2 : 1) * s.x() + s.w() + s.out()),
      s.flops() + (activates ? 16 * s.x() : 0), &Device::matmul_backward_input, [=](Operands& o) {
        MatmulBackwardInput p{.d_x = o.output(d.type, {s.M, s.K}),
                              .d_out = o.random(d.type, {s.M, s.N}, kGradients),
                              .weight = s.weight(o, d.type),
                              .activation = s.of_x,
                              .multiply = d.multiply};
        if (activates) p.pre_activation = o.random(d.type, {s.M, s.K});
        return p;
      });
  // d_out, x, d_weight read and written in float; the bias adds d_out up.
  add(cases, fmt::format("matmul_backward_weight/{}", s.name), d.e * (s.x() + s.out()) + 8 * s.w(),
      s.flops() + (s.is_head ? 0 : s.out()), &Device::matmul_backward_weight, [=](Operands& o) {
        MatmulBackwardWeight p{.d_weight = {{o.zeros(DType::f32, s.shape()), s.layout}},
                               .d_out = o.random(d.type, {s.M, s.N}, kGradients),
                               .x = o.random(d.type, {s.M, s.K}),
                               .multiply = d.multiply};
        if (!s.is_head) p.d_bias = Accumulate{o.zeros(DType::f32, {s.N})};
        return p;
      });
}

/// What an adapter does beside a product: out += scale·x·weight.
void add_accumulation(Cases& cases, const Dimensions& d, const Product& s) {
  // x, weight, and out read and written.
  add(cases, fmt::format("matmul_add/{}", s.name), d.e * (s.x() + s.w() + 2 * s.out()), s.flops(),
      &Device::matmul_add, [=](Operands& o) {
        return MatmulAdd{.out = Accumulate{o.zeros(d.type, {s.M, s.N})},
                         .x = o.random(d.type, {s.M, s.K}),
                         .weight = s.weight(o, DType::f32),
                         .scale = 2.0f,
                         .multiply = d.multiply};
      });
}

}  // namespace

void add_products(Cases& cases, const Dimensions& d) {
  const auto out_in = WeightLayout::out_in;
  const Product of_blocks[] = {
      {.name = "qkv", .M = d.N, .K = d.C, .N = 3 * d.C},
      {.name = "proj", .M = d.N, .K = d.C, .N = d.C},
      {.name = "fc", .M = d.N, .K = d.C, .N = d.I, .activation = d.config.activation_function},
      {.name = "mlp_proj", .M = d.N, .K = d.I, .N = d.C, .of_x = d.config.activation_function}};
  const Product head = {
      .name = "head", .M = d.R, .K = d.C, .N = d.W, .layout = out_in, .is_head = true};
  // Decoding: a weight read for each token.
  const Product of_one_row[] = {
      {.name = "one_row_mlp_proj", .M = 1, .K = d.I, .N = d.C},
      {.name = "one_row_head", .M = 1, .K = d.C, .N = d.V, .layout = out_in, .is_head = true}};
  for (const Product& s : of_blocks) add_forward(cases, d, s);
  add_forward(cases, d, head);
  for (const Product& s : of_one_row) {
    if (d.multiply == Multiply::as_stored) add_forward(cases, d, s);  // decoding is in float
  }
  if (d.shapes.blocks && d.multiply == Multiply::as_stored && d.C % 32 == 0 && d.I % 32 == 0) {
    add_in_blocks(cases, d, {.name = "qkv", .M = d.N, .K = d.C, .N = 3 * d.C});
    for (const Product& s : of_one_row) add_in_blocks(cases, d, s);
    add_in_blocks(cases, d, {.name = "eight_rows_head", .M = 8, .K = d.C, .N = d.V});
  }
  for (const Product& s : of_blocks) add_backward(cases, d, s);
  add_backward(cases, d, head);
  // The second product of an adapter of rank 8: x·Aᵀ has 8 columns, B is [3C, 8].
  add_accumulation(cases, d,
                   {.name = "lora_qkv", .M = d.N, .K = 8, .N = 3 * d.C, .layout = out_in});
}

}  // namespace quire

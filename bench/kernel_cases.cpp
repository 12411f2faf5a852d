#include "bench/kernel_cases.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <memory>

#include "bench/case_dimensions.h"
#include "engine/model/parameters.h"

namespace quire {
namespace {

// ---------------------------------------------------------------- embedding

// All turns share the tables; each has ids and activations of its own, so that together they
// exceed the caches as sets of other cases do.
std::int64_t turns_of(double bytes) {
  return std::min(kMostSets,
                  static_cast<std::int64_t>(static_cast<double>(kColdBytes) / bytes) + 1);
}

void add_embedding(Cases& cases, const Dimensions& d) {
  const double rows = real(d.C) * (distinct(d.N, d.V) + real(d.T));  // of wte and wpe
  // Rows of both tables, N written, two indices a row. One addition an element.
  const double bytes = d.e * (d.NC + rows) + 8 * real(d.N);
  cases.push_back({.name = "embedding_forward",
                   .bytes = bytes,
                   .flops = d.NC,
                   .make =
                       [d, turns = turns_of(bytes)](Device& device, Operands& o) {
                         EmbeddingForward p{
                             .positions = d.positions(o),
                             .wte = {o.random(d.type, {d.V, d.C}, kWeights), WeightLayout::out_in},
                             .wpe = o.random(d.type, {d.P, d.C}, kWeights)};
                         const View ids = o.ids({turns * d.B, d.T}, d.V);
                         const View out = o.zeros(d.type, {turns * d.B, d.T, d.C});
                         return KernelCall{[=, &device](std::int64_t turn) mutable {
                           p.out = out.rows(turn % turns * d.B, d.B);
                           p.ids = ids.rows(turn % turns * d.B, d.B);
                           device.embedding_forward(p);
                         }};
                       },
                   .rotates = true});
  // d_out once; rows of both gradients read and written. An addition for each table.
  const double backward = d.e * d.NC + 8 * rows + 8 * real(d.N);
  cases.push_back({.name = "embedding_backward",
                   .bytes = backward,
                   .flops = 2 * d.NC,
                   .make =
                       [d, turns = turns_of(backward)](Device& device, Operands& o) {
                         EmbeddingBackward p{.d_wte = Accumulate{o.zeros(DType::f32, {d.V, d.C})},
                                             .d_wpe = Accumulate{o.zeros(DType::f32, {d.P, d.C})},
                                             .positions = d.positions(o)};
                         const View ids = o.ids({turns * d.B, d.T}, d.V);
                         const View d_out = o.random(d.type, {turns * d.B, d.T, d.C}, kGradients);
                         return KernelCall{[=, &device](std::int64_t turn) mutable {
                           p.d_out = d_out.rows(turn % turns * d.B, d.B);
                           p.ids = ids.rows(turn % turns * d.B, d.B);
                           device.embedding_backward(p);
                         }};
                       },
                   .rotates = true});
}

// ---------------------------------------------------------------- layernorm

ResidualLayernormForward residual_layernorm(Operands& o, DType type, std::int64_t N,
                                            std::int64_t C) {
  return {.sum = o.output(type, {N, C}),
          .out = o.output(type, {N, C}),
          .x = o.random(type, {N, C}),
          .branch = o.random(type, {N, C}),
          .weight = o.random(DType::f32, {C}, kPositive),
          .bias = o.random(DType::f32, {C}, kWeights)};
}

void add_layernorm(Cases& cases, const Dimensions& d) {
  const double statistics = 8 * real(d.N);  // mean and rstd
  // x, out. Mean 1, variance 3, normalising 2, weight and bias 2.
  add(cases, "layernorm_forward", 2 * d.e * d.NC + statistics, 8 * d.NC, &Device::layernorm_forward,
      [d](Operands& o) {
        return LayernormForward{.out = o.output(d.type, {d.N, d.C}),
                                .mean = o.output(DType::f32, {d.N}),
                                .rstd = o.output(DType::f32, {d.N}),
                                .x = o.random(d.type, {d.N, d.C}),
                                .weight = o.random(DType::f32, {d.C}, kPositive),
                                .bias = o.random(DType::f32, {d.C}, kWeights)};
      });
  // x, branch, sum, out. As above, and the addition.
  add(cases, "residual_layernorm_forward", 4 * d.e * d.NC + statistics, 9 * d.NC,
      &Device::residual_layernorm_forward, [d](Operands& o) {
        ResidualLayernormForward p = residual_layernorm(o, d.type, d.N, d.C);
        p.mean = o.output(DType::f32, {d.N});
        p.rstd = o.output(DType::f32, {d.N});
        return p;
      });
  // d_out, x, d_x read and written. n 2, g 1, its two means 3, d_x 5, d_weight 2, d_bias 1.
  add(cases, "layernorm_backward", 4 * d.e * d.NC + statistics, 14 * d.NC,
      &Device::layernorm_backward, [d](Operands& o) {
        return LayernormBackward{.d_x = Accumulate{o.zeros(d.type, {d.N, d.C})},
                                 .d_weight = Accumulate{o.zeros(DType::f32, {d.C})},
                                 .d_bias = Accumulate{o.zeros(DType::f32, {d.C})},
                                 .d_out = o.random(d.type, {d.N, d.C}, kGradients),
                                 .x = o.random(d.type, {d.N, d.C}),
                                 .weight = o.random(DType::f32, {d.C}, kPositive),
                                 .mean = o.random(DType::f32, {d.N}, kWeights),
                                 .rstd = o.random(DType::f32, {d.N}, kPositive)};
      });
  // One step of decoding, B rows: their sum, layernorm and queries, keys, values. The weight is
  // nearly all there is to read.
  const double rows = real(d.B) * real(d.C);
  cases.push_back(
      {"layernorm_matmul/qkv", d.e * (3 * real(d.C * d.C) + 6 * rows), rows * (9 + 6 * real(d.C)),
       [d](Device& device, Operands& o) {
         LayernormMatmul p{.layernorm = residual_layernorm(o, d.type, d.B, d.C)};
         p.matmul = {.out = o.output(d.type, {d.B, 3 * d.C}),
                     .x = p.layernorm.out,
                     .weight = {o.random(d.type, {d.C, 3 * d.C}, kWeights), WeightLayout::in_out},
                     .bias = o.random(DType::f32, {3 * d.C}, kWeights)};
         return KernelCall{[=, &device](std::int64_t) { device.layernorm_matmul(p); },
                           [=, &device] {
                             // The fused form may leave layernorm.out alone.
                             device.residual_layernorm_forward(p.layernorm);
                           }};
       }});
}

// ---------------------------------------------------------------- activation

void add_activation(Cases& cases, const Dimensions& d) {
  // x, out. gelu_new: x·x, ·0.044715, +1, ·x·sqrt(2/pi), tanh, +1, ·0.5x.
  add(cases, "activation_forward", 2 * d.e * d.NI, 8 * d.NI, &Device::activation_forward,
      [d](Operands& o) {
        return ActivationForward{.out = o.output(d.type, {d.N, d.I}),
                                 .x = o.random(d.type, {d.N, d.I}),
                                 .activation = d.config.activation_function};
      });
  // x, d_out, d_x. The same, its derivative 7, the product.
  add(cases, "activation_backward", 3 * d.e * d.NI, 16 * d.NI, &Device::activation_backward,
      [d](Operands& o) {
        return ActivationBackward{.d_x = o.output(d.type, {d.N, d.I}),
                                  .d_out = o.random(d.type, {d.N, d.I}, kGradients),
                                  .x = o.random(d.type, {d.N, d.I}),
                                  .activation = d.config.activation_function};
      });
  // x, out. A comparison and a product.
  add(cases, "dropout", 2 * d.e * d.NC, 2 * d.NC, &Device::dropout, [d](Operands& o) {
    return Dropout{.out = o.output(d.type, {d.N, d.C}),
                   .x = o.random(d.type, {d.N, d.C}),
                   .p = 0.1f,
                   .key = {.seed = 5, .stream = 1}};
  });
}

// ---------------------------------------------------------------- attention

AttentionForward attention_of(Operands& o, const Dimensions& d) {
  return {.out = o.output(d.type, {d.B, d.T, d.C}),
          .lse = o.output(DType::f32, {d.B, d.H, d.T}),
          .qkv = o.random(d.type, {d.B, d.T, 3 * d.C}),
          .heads = d.config.n_head,
          .scale = d.config.attention_scale(0)};
}

void add_attention(Cases& cases, const Dimensions& d) {
  const double lse = 4 * real(d.B * d.H * d.T);
  // The causal half of two products of T×T×D a head, the softmax not counted, as the papers do:
  // 2 products · 2·D flops · T(T + 1)/2 pairs · H heads · B rows.
  const double flops = 2 * real(d.B) * real(d.C) * real(d.T) * real(d.T + 1);
  // qkv, out.
  add(cases, "attention_forward", d.e * 4 * d.NC + lse, flops, &Device::attention_forward,
      [d](Operands& o) { return attention_of(o, d); });
  // qkv, out, d_out, d_qkv. Five products: the scores again, d_v, d_p, d_q, d_k.
  cases.push_back(
      {"attention_backward", d.e * 8 * d.NC + lse, 2.5 * flops, [d](Device& device, Operands& o) {
         const AttentionForward forward = attention_of(o, d);
         const AttentionBackward p{.d_qkv = o.output(d.type, {d.B, d.T, 3 * d.C}),
                                   .d_out = o.random(d.type, {d.B, d.T, d.C}, kGradients),
                                   .out = forward.out,
                                   .lse = forward.lse,
                                   .qkv = forward.qkv,
                                   .heads = forward.heads,
                                   .scale = forward.scale};
         return KernelCall{[=, &device](std::int64_t) { device.attention_backward(p); },
                           [=, &device] { device.attention_forward(forward); }};
       }});
  // One new token a row behind L - 1 cached ones: their keys and values, qkv, two slots written,
  // out. Two products of D a slot and head.
  for (const std::int64_t length : {128, 512, 1024}) {
    const std::int64_t L = std::min(length, d.P);
    const std::string name = fmt::format("attention_cached/length:{}", L);
    if (cases.back().name == name) continue;
    const double BC = real(d.B * d.C);
    add(cases, name, d.e * BC * (2 * real(L - 1) + 6), 4 * BC * real(L), &Device::attention_cached,
        [d, L](Operands& o) {
          const Shape cache = {d.H, d.B * L, d.C / d.H};
          const std::int64_t M = (L + kCacheBlock - 1) / kCacheBlock;
          return AttentionCached{
              .out = o.output(d.type, {d.B, 1, d.C}),
              .k_cache = o.random(d.type, cache),
              .v_cache = o.random(d.type, cache),
              .qkv = o.random(d.type, {d.B, 1, 3 * d.C}),
              .past =
                  o.integers({d.B}, [L](std::int64_t) { return static_cast<std::int32_t>(L - 1); }),
              .blocks =
                  o.integers({d.B, M},
                             [L, M](std::int64_t i) {
                               return static_cast<std::int32_t>(i / M * L + i % M * kCacheBlock);
                             }),
              .heads = d.config.n_head,
              .scale = d.config.attention_scale(0)};
        });
  }
}

// ---------------------------------------------------------------- loss and optimizer

void add_cross_entropy(Cases& cases, const Dimensions& d) {
  // Logits once. The maximum, a subtraction, an exponential, a sum.
  add(cases, "cross_entropy_forward", d.e * d.RV + 8 * real(d.R), 4 * d.RV,
      &Device::cross_entropy_forward, [d](Operands& o) {
        return CrossEntropyForward{.losses = o.output(DType::f32, {d.R}),
                                   .logits = o.random(d.type, {d.R, d.W}, kLogits),
                                   .targets = o.ids({d.R}, d.V),
                                   .vocab = d.V};
      });
  // Logits read, gradients written. The same, and a subtraction, an exponential, a product.
  add(cases, "cross_entropy_backward", d.e * (d.RV + d.RW) + 8 * real(d.R), 7 * d.RV,
      &Device::cross_entropy_backward, [d](Operands& o) {
        return CrossEntropyBackward{.losses = o.output(DType::f32, {d.R}),
                                    .logits_to_grads = o.in_place(d.type, {d.R, d.W}, kLogits),
                                    .targets = o.ids({d.R}, d.V),
                                    .scale = 1.0f / static_cast<float>(d.R),
                                    .vocab = d.V};
      });
}

void add_optimizer(Cases& cases, const Dimensions& d) {
  const auto parameters =
      std::make_shared<const std::vector<NamedParameter>>(parameter_list(d.config));
  double all = 0, copied = 0;
  for (const NamedParameter& parameter : *parameters) {
    all += real(parameter.shape.count());
    if (parameter.is_matrix && d.type != DType::f32) copied += real(parameter.shape.count());
  }
  // p, m, v read and written, g read: 28 bytes a parameter, and 2 where there is a 16-bit copy.
  // Decay 1, m 3, v 4, the step 6.
  cases.push_back({.name = "adamw",
                   .bytes = 28 * all + 2 * copied,
                   .flops = 14 * all,
                   .make =
                       [d, parameters](Device& device, Operands& o) {
                         std::vector<AdamwTensor> tensors;
                         for (const NamedParameter& parameter : *parameters) {
                           const Shape& shape = parameter.shape;
                           AdamwTensor& t = tensors.emplace_back();
                           t.param = o.random(DType::f32, shape, kWeights);
                           t.grad = o.random(DType::f32, shape, kGradients);
                           t.m = o.zeros(DType::f32, shape);
                           t.v = o.zeros(DType::f32, shape);
                           t.weight_decay = parameter.decays ? 0.1f : 0.0f;
                           if (parameter.is_matrix && d.type != DType::f32) {
                             t.copy = o.output(d.type, shape);
                           }
                         }
                         return KernelCall{
                             [=, &device, step = std::int64_t{0}](std::int64_t) mutable {
                               device.adamw({.tensors = tensors, .lr = 1e-4f, .step = ++step});
                             }};
                       },
                   .whole_model = true});
  cases.push_back({.name = "squared_norm",
                   .bytes = 4 * all,
                   .flops = 2 * all,
                   .make =
                       [parameters](Device& device, Operands& o) {
                         std::vector<ConstView> tensors;
                         for (const NamedParameter& parameter : *parameters) {
                           tensors.push_back(o.random(DType::f32, parameter.shape, kGradients));
                         }
                         return KernelCall{
                             [=, &device](std::int64_t) { device.squared_norm(tensors); }};
                       },
                   .whole_model = true});
}

// ---------------------------------------------------------------- sampling

void add_sampling(Cases& cases, const Dimensions& d) {
  // The history's ids, and the logits of its distinct tokens, read and written.
  const double penalized = real(d.B) * distinct(d.P, d.V);
  add(cases, "repetition_penalty", 4 * real(d.B * d.P) + 8 * penalized, penalized,
      &Device::repetition_penalty, [d](Operands& o) {
        return RepetitionPenalty{.logits = o.in_place(DType::f32, {d.B, d.V}, kLogits),
                                 .history = o.ids({d.B, d.P}, d.V),
                                 .penalty = 1.2f};
      });
  // Logits read and written. The division and a comparison; top_p adds the softmax, 3.
  const auto warp = [&](const char* name, int top_k, float top_p, double flops) {
    add(cases, fmt::format("warp_logits/{}", name), 8 * d.BV, flops * d.BV, &Device::warp_logits,
        [=](Operands& o) {
          return WarpLogits{.logits = o.in_place(DType::f32, {d.B, d.V}, kLogits),
                            .temperature = 0.8f,
                            .top_k = top_k,
                            .top_p = top_p};
        });
  };
  warp("temperature", 0, 1.0f, 1);
  warp("top_k", 50, 1.0f, 2);
  warp("top_p", 0, 0.9f, 5);
  // Logits once. A subtraction, an exponential, a sum.
  add(cases, "draw_tokens", 4 * d.BV, 3 * d.BV, &Device::draw_tokens, [d](Operands& o) {
    return DrawTokens{.tokens = o.output(DType::i32, {d.B}),
                      .logits = o.random(DType::f32, {d.B, d.V}, kLogits),
                      .uniforms = o.random(DType::f32, {d.B}, kUniform)};
  });
  // Logits once, a comparison each.
  add(cases, "argmax_tokens", 4 * d.BV, d.BV, &Device::argmax_tokens, [d](Operands& o) {
    return ArgmaxTokens{.tokens = o.output(DType::i32, {d.B}),
                        .logits = o.random(DType::f32, {d.B, d.V}, kLogits)};
  });
}

}  // namespace

std::vector<KernelCase> kernel_cases(const KernelShapes& shapes) {
  const Dimensions d{shapes};
  Cases cases;
  if (shapes.multiply == Multiply::in_bf16) {
    add_products(cases, d);
    return cases;
  }
  add_embedding(cases, d);
  add_layernorm(cases, d);
  add_products(cases, d);
  add_activation(cases, d);
  add_attention(cases, d);
  add_cross_entropy(cases, d);
  add_optimizer(cases, d);
  add_sampling(cases, d);
  return cases;
}

}  // namespace quire

// What the tables of cases are made from: the extents of a model's tensors under their letters, and
// what tensors hold.
//
// Bytes are the traffic no kernel can avoid: each input read once, each output written once, what
// is added to read and written. e is the size of an activation; statistics, losses, gradients of
// parameters and indices have 4 bytes. Vectors of parameters, read once for all rows, are left out
// where rows are many. Flops of products are 2 a multiply-add; of all else an addition,
// multiplication, comparison, division, exponential, hyperbolic tangent or square root is one each.
// Integer work (random numbers, selection) is not counted.
#pragma once

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "bench/kernel_cases.h"
#include "engine/model/parameters.h"

namespace quire {

inline constexpr Noise kWeights{.scale = 0.02f};
inline constexpr Noise kGradients{.scale = 0.01f};
inline constexpr Noise kLogits{.scale = 2.5f};  // about as peaked as a trained GPT-2's
inline constexpr Noise kPositive{.kind = Noise::Kind::uniform, .low = 0.5f};
inline constexpr Noise kUniform{.kind = Noise::Kind::uniform};

inline double real(std::int64_t count) {
  return static_cast<double>(count);
}

struct Dimensions {
  KernelShapes shapes;
  Gpt2Config config = shapes.config;
  DType type = shapes.dtype;
  Multiply multiply = shapes.multiply;
  std::int64_t B = shapes.batch, T = shapes.length, N = B * T;
  std::int64_t C = config.n_embd, I = config.inner(), H = config.n_head, P = config.n_positions;
  std::int64_t V = config.vocab_size, W = round_up(V, shapes.vocab_multiple);
  std::int64_t R = std::min(shapes.head_rows, N);
  double e = static_cast<double>(size_of(type));  // bytes of an activation
  double NC = real(N * C), NI = real(N * I);      // elements
  double RV = real(R * V), RW = real(R * W), BV = real(B * V);

  View positions(Operands& o) const {
    return o.integers({B, T}, [T = T](std::int64_t i) { return static_cast<std::int32_t>(i % T); });
  }
};

using Cases = std::vector<KernelCase>;

/// A case that calls the op with what `make` takes from its operands.
template <class Struct, class Make>
void add(Cases& cases, const std::string& name, double bytes, double flops,
         void (Device::*op)(const Struct&), const Make& make) {
  cases.push_back({name, bytes, flops, [=](Device& device, Operands& o) {
                     return KernelCall{
                         [&device, op, p = make(o)](std::int64_t) { (device.*op)(p); }};
                   }});
}

/// How many different ones are expected among `draws` of `all`, each as likely as the next: what a
/// table's cache lines are read for.
inline double distinct(std::int64_t draws, std::int64_t all) {
  return real(all) * -std::expm1(real(draws) * std::log1p(-1.0 / real(all)));
}

/// Every product of training and decoding at the model's shapes.
void add_products(Cases& cases, const Dimensions& d);

}  // namespace quire

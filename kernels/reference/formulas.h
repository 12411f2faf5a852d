// The ops as formulas over doubles.
//
// ReferenceDevice reads its views into doubles, calls these, and rounds what they return into its
// views: nothing in between is rounded to a storage type. Finite differences are taken of these
// same functions, where a step of 1e-5 is far above the rounding of a double. Shapes are those of
// kernels/ops.h, flattened row by row.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/ops.h"

namespace quire::reference {

using Doubles = std::vector<double>;

// ---------------------------------------------------------------- views

Doubles read(const ConstView& view);  ///< any float type
std::span<const std::int32_t> ids(const ConstView& view);
void write(const View& view, const Doubles& values);        ///< f32, to nearest
void add(const Accumulate& target, const Doubles& values);  ///< old + value, rounded once

// ---------------------------------------------------------------- layernorm

struct Layernorm {
  Doubles out;         // [N, C]
  Doubles mean, rstd;  // [N]
};
Layernorm layernorm(const Doubles& x, const Doubles& weight, const Doubles& bias, double eps);

struct LayernormGradients {
  Doubles d_x;               // [N, C]
  Doubles d_weight, d_bias;  // [C]
};
LayernormGradients layernorm_gradients(const Doubles& d_out, const Doubles& x,
                                       const Doubles& weight, const Doubles& mean,
                                       const Doubles& rstd);

// ---------------------------------------------------------------- matmul and activation

/// a [M, K] · b [K, N]
Doubles matmul(const Doubles& a, const Doubles& b, std::int64_t M, std::int64_t K, std::int64_t N);
Doubles transposed(const Doubles& a, std::int64_t rows, std::int64_t columns);
Doubles sum_of_rows(const Doubles& a, std::int64_t columns);

double activate(Activation activation, double x);
double activation_slope(Activation activation, double x);

// ---------------------------------------------------------------- attention

struct AttentionShape {
  std::int64_t B, T, H, D;
  double scale = 1.0;
  double dropout = 0.0;
  RandomKey key;
  std::span<const std::int32_t> first_key;  // [B, T], or empty
};

struct Attention {
  Doubles out;  // [B, T, C]
  Doubles lse;  // [B, H, T]
};
Attention attention(const AttentionShape& shape, const Doubles& qkv);

/// d_qkv, [B, T, 3C].
Doubles attention_gradients(const AttentionShape& shape, const Doubles& d_out, const Doubles& out,
                            const Doubles& lse, const Doubles& qkv);

// ---------------------------------------------------------------- cross_entropy

Doubles cross_entropy(const Doubles& logits, std::span<const std::int32_t> targets);
Doubles cross_entropy_gradients(const Doubles& logits, std::span<const std::int32_t> targets,
                                double scale);

/// What dropout multiplies element `index` by: 0 or 1/(1 - p).
double dropout_factor(RandomKey key, double p, std::uint64_t index);

}  // namespace quire::reference

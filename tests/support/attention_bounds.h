// How far attention may be from its formula.
#pragma once

#include <algorithm>
#include <cmath>

#include "tests/support/attention_inputs.h"
#include "tests/support/compare.h"

namespace quire::test {

/// The size of a dot product: Σ|ab|.
inline double size_of_dot(const double* a, const double* b, std::int64_t D) {
  double sum = 0.0;
  for (std::int64_t d = 0; d < D; ++d) sum += std::abs(a[d] * b[d]);
  return sum;
}

inline double dot(const double* a, const double* b, std::int64_t D) {
  double sum = 0.0;
  for (std::int64_t d = 0; d < D; ++d) sum += a[d] * b[d];
  return sum;
}

/// Walks over what each query sees: visit(b, h, t, first),
/// and key(k), value(k) as offsets into qkv.
template <class Visit>
void for_each_query(const AttentionInput& in, const Visit& visit) {
  for (std::int64_t b = 0; b < in.B; ++b) {
    for (std::int64_t h = 0; h < in.H; ++h) {
      for (std::int64_t t = 0; t < in.T; ++t) {
        visit(b, h, t, in.first_key.empty() ? 0 : in.first_key[b * in.T + t]);
      }
    }
  }
}

/// What rounding a number of size `size` to a type may be off by.
inline double rounding(DType dtype, double size) {
  if (dtype == DType::bf16) return 0x1p-8 * size;
  return dtype == DType::f16 ? 0x1p-11 * size + 0x1p-25 : 0.0;
}

struct ForwardBounds {
  Doubles out, lse;
};

/// A score is a sum of D products; its error, and that of its distance to the largest score, is
/// what the exponential turns into a relative error of p. The sum under the fraction has n terms,
/// and so has the sum over the values. A 16-bit type rounds each p (at most 1, before it is divided
/// by a sum that is at least 1), and the output.
inline ForwardBounds bounds_of(const AttentionInput& in, const reference::Attention& want) {
  const std::int64_t C = in.C(), D = in.D;
  const Doubles qkv = widened(in.qkv);
  ForwardBounds bounds{Doubles(want.out.size()), Doubles(want.lse.size())};
  for_each_query(in, [&](std::int64_t b, std::int64_t h, std::int64_t t, std::int64_t first) {
    if (first > t) return;
    const double n = static_cast<double>(t - first + 1);
    const double* q = qkv.data() + (b * in.T + t) * 3 * C + h * D;
    const std::int64_t lse_at = (b * in.H + h) * in.T + t;
    double of_score = 0.0, largest = -1e300;
    for (std::int64_t k = first; k <= t; ++k) {
      const double* key = qkv.data() + (b * in.T + k) * 3 * C + C + h * D;
      const double score = in.scale * dot(q, key, D);
      largest = std::max(largest, score);
      const double distance = std::abs(score - want.lse[lse_at]);
      of_score = std::max(of_score, (static_cast<double>(D) + 4.0) * kEps * std::abs(in.scale) *
                                            size_of_dot(q, key, D) +
                                        4.0 * kEps * distance);
    }
    bounds.lse[lse_at] =
        of_score + (n + 8.0) * kEps + 4.0 * kEps * (std::abs(want.lse[lse_at]) + std::abs(largest));
    for (std::int64_t k = first; k <= t; ++k) {
      const double* key = qkv.data() + (b * in.T + k) * 3 * C + C + h * D;
      const double p = std::exp(in.scale * dot(q, key, D) - want.lse[lse_at]);
      const double factor = in.factor(b, h, t, k);
      for (std::int64_t d = 0; d < D; ++d) {
        bounds.out[(b * in.T + t) * C + h * D + d] +=
            ((2.0 * of_score + (2.0 * n + 16.0) * kEps) * p + rounding(in.dtype, p)) * factor *
            std::abs(key[C + d]);
      }
    }
    for (std::int64_t d = 0; d < D; ++d) {
      const std::int64_t at = (b * in.T + t) * C + h * D + d;
      bounds.out[at] += rounding(in.dtype, std::abs(want.out[at]) + bounds.out[at]);
    }
  });
  return bounds;
}

}  // namespace quire::test

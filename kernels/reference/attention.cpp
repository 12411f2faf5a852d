// Causal attention, one query at a time: scores, softmax, weighted sum of values.
#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/reference/formulas.h"
#include "kernels/reference/reference_device.h"

namespace quire::reference {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// Where slot k of a row is, whose blocks begin there.
std::int64_t position(const std::int32_t* blocks, std::int64_t k) {
  return blocks[k / kCacheBlock] + k % kCacheBlock;
}

/// Rows of keys or values: row k starts at first + k·stride, or where its block has it.
struct Rows {
  const double* first;
  std::int64_t stride;
  const std::int32_t* blocks = nullptr;
  const double* operator[](std::int64_t k) const {
    return first + (blocks != nullptr ? position(blocks, k) : k) * stride;
  }
};

double dot(const double* a, const double* b, std::int64_t D) {
  double sum = 0.0;
  for (std::int64_t d = 0; d < D; ++d) sum += a[d] * b[d];
  return sum;
}

/// What one query sees: keys first … last, each with its dropout factor (or none).
struct Query {
  const double* q;  // [D]
  std::int64_t first, last;
  const double* factors;  // [last + 1], or null: 1 everywhere
};

/// Writes out [D]; returns the log of the sum of the exponentials.
double attend(const Query& query, Rows keys, Rows values, std::int64_t D, double scale,
              double* out) {
  std::fill(out, out + D, 0.0);
  double largest = -kInfinity;
  for (std::int64_t k = query.first; k <= query.last; ++k) {
    largest = std::max(largest, scale * dot(query.q, keys[k], D));
  }
  double sum = 0.0;
  for (std::int64_t k = query.first; k <= query.last; ++k) {
    sum += std::exp(scale * dot(query.q, keys[k], D) - largest);
  }
  const double lse = query.first <= query.last ? largest + std::log(sum) : -kInfinity;
  for (std::int64_t k = query.first; k <= query.last; ++k) {
    double p = std::exp(scale * dot(query.q, keys[k], D) - largest) / sum;
    if (query.factors != nullptr) p *= query.factors[k];
    for (std::int64_t d = 0; d < D; ++d) out[d] += p * values[k][d];
  }
  return lse;
}

/// The dropout factors of query t, by key; empty without dropout.
Doubles factors_of(const AttentionShape& s, std::int64_t bh, std::int64_t t) {
  if (s.dropout == 0.0) return {};
  Doubles factors(static_cast<std::size_t>(t + 1));
  for (std::int64_t k = 0; k <= t; ++k) {
    const auto element = static_cast<std::uint64_t>((bh * s.T + t) * s.T + k);
    factors[k] = dropout_factor(s.key, s.dropout, element);
  }
  return factors;
}

std::int64_t first_of(const AttentionShape& s, std::int64_t b, std::int64_t t) {
  return s.first_key.empty() ? 0 : s.first_key[b * s.T + t];
}

template <class Op>
AttentionShape shape_of(const Op& p) {
  const Shape& shape = p.out.shape();
  return {.B = shape[0],
          .T = shape[1],
          .H = p.heads,
          .D = shape[2] / p.heads,
          .scale = p.scale,
          .dropout = p.dropout,
          .key = p.key,
          .first_key = ids(p.first_key)};
}

/// Calls work(b, h, t) for all queries.
template <class Work>
void each_query(std::int64_t B, std::int64_t H, std::int64_t T, const Work& work) {
  for (std::int64_t b = 0; b < B; ++b) {
    for (std::int64_t h = 0; h < H; ++h) {
      for (std::int64_t t = 0; t < T; ++t) work(b, h, t);
    }
  }
}

}  // namespace

Attention attention(const AttentionShape& s, const Doubles& qkv) {
  const std::int64_t C = s.H * s.D;
  Attention result{Doubles(s.B * s.T * C), Doubles(s.B * s.H * s.T)};
  each_query(s.B, s.H, s.T, [&](std::int64_t b, std::int64_t h, std::int64_t t) {
    const double* head = qkv.data() + b * s.T * 3 * C + h * s.D;
    const Doubles factors = factors_of(s, b * s.H + h, t);
    const Query query{head + t * 3 * C, first_of(s, b, t), t,
                      factors.empty() ? nullptr : factors.data()};
    result.lse[(b * s.H + h) * s.T + t] =
        attend(query, {head + C, 3 * C}, {head + 2 * C, 3 * C}, s.D, s.scale,
               result.out.data() + (b * s.T + t) * C + h * s.D);
  });
  return result;
}

Doubles attention_gradients(const AttentionShape& s, const Doubles& d_out, const Doubles& out,
                            const Doubles& lse, const Doubles& qkv) {
  const std::int64_t C = s.H * s.D;
  Doubles d_qkv(qkv.size());
  each_query(s.B, s.H, s.T, [&](std::int64_t b, std::int64_t h, std::int64_t t) {
    const std::int64_t head = b * s.T * 3 * C + h * s.D;
    const Doubles factors = factors_of(s, b * s.H + h, t);
    const std::int64_t row = (b * s.T + t) * C + h * s.D;  // of out and d_out
    const std::int64_t query = head + t * 3 * C;           // of qkv and d_qkv
    // The softmax's gradient takes from each score the mean of d_p under p, which is d_out·out.
    const double mean = dot(d_out.data() + row, out.data() + row, s.D);
    for (std::int64_t k = first_of(s, b, t); k <= t; ++k) {
      const std::int64_t key = head + k * 3 * C + C;
      const std::int64_t value = key + C;
      const double factor = factors.empty() ? 1.0 : factors[k];
      const double p = std::exp(s.scale * dot(qkv.data() + query, qkv.data() + key, s.D) -
                                lse[(b * s.H + h) * s.T + t]);
      const double d_p = factor * dot(d_out.data() + row, qkv.data() + value, s.D);
      const double d_score = s.scale * p * (d_p - mean);
      for (std::int64_t d = 0; d < s.D; ++d) {
        d_qkv[query + d] += d_score * qkv[key + d];
        d_qkv[key + d] += d_score * qkv[query + d];
        d_qkv[value + d] += factor * p * d_out[row + d];
      }
    }
  });
  return d_qkv;
}

void ReferenceDevice::do_attention_forward(const AttentionForward& p) {
  const Attention result = attention(shape_of(p), read(p.qkv));
  write(p.out, result.out);
  if (p.lse) write(p.lse, result.lse);
}

void ReferenceDevice::do_attention_backward(const AttentionBackward& p) {
  write(p.d_qkv,
        attention_gradients(shape_of(p), read(p.d_out), read(p.out), read(p.lse), read(p.qkv)));
}

void ReferenceDevice::do_attention_cached(const AttentionCached& p) {
  const std::int64_t B = p.out.shape()[0], T = p.out.shape()[1], C = p.out.shape()[2];
  const std::int64_t H = p.heads, D = C / H, N = p.k_cache.shape()[1], M = p.blocks.shape()[1];
  const auto past = ids(p.past);
  const std::int32_t* blocks = p.blocks.data<std::int32_t>();
  const float* qkv = p.qkv.data<float>();
  for (std::int64_t b = 0; b < B; ++b) {
    for (std::int64_t t = 0; t < T; ++t) {
      for (std::int64_t c = 0; c < C; ++c) {
        const std::int64_t at = position(blocks + b * M, past[b] + t);
        const std::int64_t slot = (c / D * N + at) * D + c % D;
        p.k_cache.data<float>()[slot] = qkv[(b * T + t) * 3 * C + C + c];
        p.v_cache.data<float>()[slot] = qkv[(b * T + t) * 3 * C + 2 * C + c];
      }
    }
  }
  const Doubles queries = read(p.qkv);
  const Doubles keys = read(p.k_cache), values = read(p.v_cache);
  Doubles out(B * T * C);
  each_query(B, H, T, [&](std::int64_t b, std::int64_t h, std::int64_t t) {
    const std::int64_t head = h * N * D;
    attend({queries.data() + (b * T + t) * 3 * C + h * D, 0, past[b] + t, nullptr},
           {keys.data() + head, D, blocks + b * M}, {values.data() + head, D, blocks + b * M}, D,
           p.scale, out.data() + (b * T + t) * C + h * D);
  });
  write(p.out, out);
}

}  // namespace quire::reference

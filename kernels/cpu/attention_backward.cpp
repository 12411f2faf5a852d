// Attention, backward: five products of 64 × 64 blocks, probabilities computed again from lse.
//
// For a block of keys and each block of queries that sees it, with f the dropout factors:
//
//   p = e^(q·kᵀ - lse);  dp = f·(d_out·vᵀ);  ds = p·(dp - rowsum(d_out·out))
//   d_v += (f·p)ᵀ·d_out;  d_k += dsᵀ·q;  d_q += ds·k
//
// where q is scaled already. A head is one task: its sums run in the order of the blocks and no two
// threads add to the same place. 10·D flops for each pair of query and key,
// 2.5 times the forward op.
#include <algorithm>
#include <cmath>

#include "kernels/cpu/device.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/attention_backward.cpp"
#include "hwy/foreach_target.h"
#include "kernels/cpu/attention-inl.h"

HWY_BEFORE_NAMESPACE();
namespace quire::cpu::HWY_NAMESPACE {
namespace {

constexpr std::int64_t kQueries = 64;

/// One head of the op. Row t of a tensor with C or 3C channels starts at first + t·stride.
struct Head {
  Rows q, k, v, out, d_out;
  const float* lse;  // [T]
  float *d_q, *d_k, *d_v;
  std::int64_t d_stride;
  std::int64_t D;
  float scale;
};

/// Where a run of at most `queries` queries is worked on.
struct Workspace {
  // The run's queries.
  float* q;      // [queries, width] scaled
  float* d_out;  // [queries, width]
  float* d_q;    // [queries, width]
  float* delta;  // [queries] rowsum(d_out·out)
  // One block of keys.
  float* k_columns;  // [D, kKeys]
  float* v_columns;  // [D, kKeys]
  float* k;          // [kKeys, width]
  float* d_k;        // [kKeys, width]
  float* d_v;        // [kKeys, width]
  // One pair of blocks.
  float* p;        // [kQueries, kKeys] scores, then f·p
  float* ds;       // [kQueries, kKeys] dp, then ds
  float* factors;  // [kKeys]
};

Workspace workspace_of(ThreadPool& pool, std::int64_t queries, std::int64_t D) {
  const std::int64_t width = round_up_to_lanes(D), of_queries = queries * width;
  const auto [q, d_out, d_q, delta, k_columns, v_columns, k, d_k, d_v, p, ds, factors] =
      pool.scratch_arrays<float>(of_queries, of_queries, of_queries, round_up_to_lanes(queries),
                                 D * kKeys, D * kKeys, kKeys * width, kKeys * width, kKeys * width,
                                 kQueries * kKeys, kQueries * kKeys, kKeys);
  return {q, d_out, d_q, delta, k_columns, v_columns, k, d_k, d_v, p, ds, factors};
}

/// From scores and dp of one query to f·p and ds. What is masked becomes 0 in both.
HWY_INLINE void softmax_gradient(float* p, float* ds, std::int64_t visible, std::int64_t end,
                                 float lse, float delta, const float* factors) {
  for (std::int64_t i = 0; i < end; i += kLanes) {
    const Vec e = exp_bounded(hn::Sub(load(p + i), set(lse)));
    const Vec probability = i < visible ? first_lanes(e, visible - i, zero()) : zero();
    const Vec factor = factors != nullptr ? load(factors + i) : set(1.0f);
    const Vec d_p = hn::MulSub(load(ds + i), factor, set(delta));
    store(hn::Mul(probability, factor), p + i);
    store(hn::Mul(probability, d_p), ds + i);
  }
}

void add_rows(const float* from, std::int64_t count, std::int64_t D, float* to,
              std::int64_t stride) {
  const std::int64_t width = round_up_to_lanes(D);
  for (std::int64_t i = 0; i < count; ++i) {
    for_vectors(D, [&](std::int64_t d, std::int64_t lanes) QUIRE_INLINE_LAMBDA {
      float* at = to + i * stride + d;
      store(hn::Add(load(at, lanes), load(from + i * width + d)), at, lanes);
    });
  }
}

/// Queries [begin, end), which see the keys from first_key <= begin on up to themselves.
void run_backward(const Head& head, std::int64_t begin, std::int64_t end, std::int64_t first_key,
                  const ProbabilityDropout& dropout, const Workspace& w) {
  const std::int64_t D = head.D;
  const std::int64_t width = round_up_to_lanes(D);
  const std::int64_t queries = end - begin;
  pack_rows({head.q[begin], head.q.stride}, queries, D, head.scale, w.q);
  pack_rows({head.d_out[begin], head.d_out.stride}, queries, D, 1.0f, w.d_out);
  std::fill(w.d_q, w.d_q + queries * width, 0.0f);
  for (std::int64_t i = 0; i < queries; ++i) {
    const float* out = head.out[begin + i];
    const float* d_out = head.d_out[begin + i];
    w.delta[i] = sum_terms(D, [&](std::int64_t d, std::int64_t count) QUIRE_INLINE_LAMBDA {
      return hn::Mul(load(out + d, count), load(d_out + d, count));
    });
  }
  for (std::int64_t key = first_key; key < end; key += kKeys) {
    const std::int64_t present = std::min(kKeys, end - key);
    const std::int64_t columns = round_up_to_lanes(present);
    pack_columns({head.k[key], head.k.stride}, present, D, w.k_columns);
    pack_columns({head.v[key], head.v.stride}, present, D, w.v_columns);
    pack_rows({head.k[key], head.k.stride}, present, D, 1.0f, w.k);
    std::fill(w.d_k, w.d_k + present * width, 0.0f);
    std::fill(w.d_v, w.d_v + present * width, 0.0f);
    for (std::int64_t i = std::max<std::int64_t>(0, key - begin); i < queries; i += kQueries) {
      const std::int64_t count = std::min(kQueries, queries - i);
      const float* q = w.q + i * width;
      const float* d_out = w.d_out + i * width;
      product<Into::overwrite>({q, width, 1, w.k_columns, kKeys, w.p, kKeys}, count, columns, D);
      product<Into::overwrite>({d_out, width, 1, w.v_columns, kKeys, w.ds, kKeys}, count, columns,
                               D);
      for (std::int64_t row = 0; row < count; ++row) {
        const std::int64_t t = begin + i + row;
        if (dropout.on) dropout.factors_of(t, key, w.factors);
        softmax_gradient(w.p + row * kKeys, w.ds + row * kKeys, std::min(present, t - key + 1),
                         columns, head.lse[t], w.delta[i + row], dropout.on ? w.factors : nullptr);
      }
      product<Into::add>({w.p, 1, kKeys, d_out, width, w.d_v, width}, present, width, count);
      product<Into::add>({w.ds, 1, kKeys, q, width, w.d_k, width}, present, width, count);
      product<Into::add>({w.ds, kKeys, 1, w.k, width, w.d_q + i * width, width}, count, width,
                         present);
    }
    // Runs may share keys, so their gradients add up in memory.
    add_rows(w.d_k, present, D, head.d_k + key * head.d_stride, head.d_stride);
    add_rows(w.d_v, present, D, head.d_v + key * head.d_stride, head.d_stride);
  }
  for (std::int64_t i = 0; i < queries; ++i) {
    for_vectors(D, [&](std::int64_t d, std::int64_t count) QUIRE_INLINE_LAMBDA {
      store(hn::Mul(load(w.d_q + i * width + d), set(head.scale)),
            head.d_q + (begin + i) * head.d_stride + d, count);
    });
  }
}

void attention_backward(const AttentionBackward& p, ThreadPool& pool) {
  const std::int64_t B = p.out.shape()[0], T = p.out.shape()[1], C = p.out.shape()[2];
  const std::int64_t H = p.heads, D = C / H;
  const std::int32_t* first_key = p.first_key ? p.first_key.data<std::int32_t>() : nullptr;
  pool.run(B * H, [&](std::int64_t task) HWY_ATTR {
    const std::int64_t b = task / H, h = task % H;
    const float* qkv = p.qkv.data<float>() + b * T * 3 * C + h * D;
    float* d_qkv = p.d_qkv.data<float>() + b * T * 3 * C + h * D;
    const Head head = {.q = {qkv, 3 * C},
                       .k = {qkv + C, 3 * C},
                       .v = {qkv + 2 * C, 3 * C},
                       .out = {p.out.data<float>() + b * T * C + h * D, C},
                       .d_out = {p.d_out.data<float>() + b * T * C + h * D, C},
                       .lse = p.lse.data<float>() + task * T,
                       .d_q = d_qkv,
                       .d_k = d_qkv + C,
                       .d_v = d_qkv + 2 * C,
                       .d_stride = 3 * C,
                       .D = D,
                       .scale = p.scale};
    // Queries that see nothing and keys that nobody sees keep these zeros.
    for (std::int64_t t = 0; t < T; ++t) {
      for (float* row : {head.d_q, head.d_k, head.d_v}) {
        std::fill(row + t * 3 * C, row + t * 3 * C + D, 0.0f);
      }
    }
    const Workspace workspace = workspace_of(pool, T, D);
    const ProbabilityDropout dropout{p.dropout, p.key, task, T};
    for (std::int64_t t = 0; t < T;) {
      const std::int64_t key = first_key != nullptr ? first_key[b * T + t] : 0;
      std::int64_t end = t + 1;
      while (end < T && (first_key == nullptr || first_key[b * T + end] == key)) ++end;
      const std::int64_t begin = std::max(t, key);
      if (begin < end) run_backward(head, begin, end, key, dropout, workspace);
      t = end;
    }
  });
}

}  // namespace
}  // namespace quire::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace quire::cpu {

QUIRE_CPU_OP(attention_backward, AttentionBackward)

}  // namespace quire::cpu
#endif  // HWY_ONCE

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
  bool one_run;  // of all queries, which see all keys up to themselves; or runs may share keys
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

/// From scores and dp of one query to f·p and ds, for `end` keys. What is masked becomes 0 in both.
template <bool dropped>
HWY_INLINE void softmax_gradient(float* p, float* ds, std::int64_t visible, std::int64_t end,
                                 float lse, float delta, const float* factors) {
  const auto gradient = [&](std::int64_t i, std::int64_t count) QUIRE_INLINE_LAMBDA {
    const Vec e = exp_bounded(hn::Sub(load(p + i), set(lse)));
    const Vec probability = first_lanes(e, count, zero());
    const Vec d_p = load(ds + i);
    if constexpr (dropped) {
      const Vec factor = load(factors + i);
      store(hn::Mul(probability, factor), p + i);
      store(hn::Mul(probability, hn::MulSub(d_p, factor, set(delta))), ds + i);
    } else {
      store(probability, p + i);
      store(hn::Mul(probability, hn::Sub(d_p, set(delta))), ds + i);
    }
  };
  if (HWY_LIKELY(visible == kKeys)) {
#pragma GCC unroll 4
    for (std::int64_t i = 0; i < kKeys; i += kLanes) gradient(i, kLanes);
    return;
  }
  for_vectors(visible, gradient);
  for (std::int64_t i = round_up_to_lanes(visible); i < end; i += kLanes) {
    store(zero(), p + i);
    store(zero(), ds + i);
  }
}

/// to = scale·from or to += scale·from, row by row.
template <Into into>
void write_rows(const float* from, std::int64_t count, std::int64_t D, float scale, float* to,
                std::int64_t stride) {
  const std::int64_t width = round_up_to_lanes(D);
  for (std::int64_t i = 0; i < count; ++i) {
    for_vectors(D, [&](std::int64_t d, std::int64_t lanes) QUIRE_INLINE_LAMBDA {
      float* at = to + i * stride + d;
      const Vec value = hn::Mul(load(from + i * width + d), set(scale));
      store(into == Into::add ? hn::Add(load(at, lanes), value) : value, at, lanes);
    });
  }
}

/// Queries [first, first + count) of a run against a packed block of keys, of which there are
/// `present` from position `key` on; the run begins at position `begin`. Only what is seen is
/// multiplied, but for the rest of a tile: on the diagonal that is half of a block.
void backward_of_pair(const Head& head, std::int64_t begin, std::int64_t first, std::int64_t count,
                      std::int64_t key, std::int64_t present, const ProbabilityDropout& dropout,
                      const Workspace& w) {
  const std::int64_t D = head.D;
  const std::int64_t width = round_up_to_lanes(D);
  const float* q = w.q + first * width;
  const float* d_out = w.d_out + first * width;
  for (std::int64_t row = 0; row < count; row += kTileRows) {
    const std::int64_t rows = std::min<std::int64_t>(kTileRows, count - row);
    const std::int64_t t = begin + first + row;
    const auto visible = [&](std::int64_t i) { return std::min(present, t + i - key + 1); };
    // A tile of keys that one of the rows sees is there as a whole.
    const std::int64_t tiles = (visible(rows - 1) + kTileRows - 1) / kTileRows;
    const std::int64_t columns = round_up_to_lanes(std::min(present, tiles * kTileRows));
    float* p = w.p + row * kKeys;
    float* ds = w.ds + row * kKeys;
    product<Into::overwrite>({q + row * width, width, 1, w.k_columns, kKeys, p, kKeys}, rows,
                             columns, D);
    product<Into::overwrite>({d_out + row * width, width, 1, w.v_columns, kKeys, ds, kKeys}, rows,
                             columns, D);
    for (std::int64_t i = 0; i < rows; ++i) {
      const float lse = head.lse[t + i], delta = w.delta[first + row + i];
      const std::int64_t at = i * kKeys;
      if (dropout.on) {
        dropout.factors_of(t + i, key, w.factors);
        softmax_gradient<true>(p + at, ds + at, visible(i), columns, lse, delta, w.factors);
      } else {
        softmax_gradient<false>(p + at, ds + at, visible(i), columns, lse, delta, nullptr);
      }
    }
    product<Into::add>({ds, kKeys, 1, w.k, width, w.d_q + (first + row) * width, width}, rows,
                       width, visible(rows - 1));
  }
  for (std::int64_t j = 0; j < present; j += kTileRows) {
    // The first query that sees key j: where it is not the first row of a tile, the others of its
    // tile have zeros here.
    const std::int64_t row =
        std::max<std::int64_t>(0, key + j - (begin + first)) / kTileRows * kTileRows;
    if (row >= count) break;
    const std::int64_t keys = std::min<std::int64_t>(kTileRows, present - j);
    const std::int64_t at = row * kKeys + j;
    product<Into::add>({w.p + at, 1, kKeys, d_out + row * width, width, w.d_v + j * width, width},
                       keys, width, count - row);
    product<Into::add>({w.ds + at, 1, kKeys, q + row * width, width, w.d_k + j * width, width},
                       keys, width, count - row);
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
    const float* d_out = w.d_out + i * width;
    w.delta[i] = sum_terms(D, [&](std::int64_t d, std::int64_t count) QUIRE_INLINE_LAMBDA {
      return hn::Mul(load(out + d, count), load(d_out + d, count));
    });
  }
  for (std::int64_t key = first_key; key < end; key += kKeys) {
    const std::int64_t present = std::min(kKeys, end - key);
    pack_columns({head.k[key], head.k.stride}, present, D, w.k_columns);
    pack_columns({head.v[key], head.v.stride}, present, D, w.v_columns);
    pack_rows({head.k[key], head.k.stride}, present, D, 1.0f, w.k);
    std::fill(w.d_k, w.d_k + present * width, 0.0f);
    std::fill(w.d_v, w.d_v + present * width, 0.0f);
    for (std::int64_t i = std::max<std::int64_t>(0, key - begin); i < queries; i += kQueries) {
      backward_of_pair(head, begin, i, std::min(kQueries, queries - i), key, present, dropout, w);
    }
    float* d_k = head.d_k + key * head.d_stride;
    float* d_v = head.d_v + key * head.d_stride;
    if (head.one_run) {
      write_rows<Into::overwrite>(w.d_k, present, D, 1.0f, d_k, head.d_stride);
      write_rows<Into::overwrite>(w.d_v, present, D, 1.0f, d_v, head.d_stride);
    } else {
      write_rows<Into::add>(w.d_k, present, D, 1.0f, d_k, head.d_stride);
      write_rows<Into::add>(w.d_v, present, D, 1.0f, d_v, head.d_stride);
    }
  }
  write_rows<Into::overwrite>(w.d_q, queries, D, head.scale, head.d_q + begin * head.d_stride,
                              head.d_stride);
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
                       .scale = p.scale,
                       .one_run = first_key == nullptr};
    // Queries that see nothing and keys that nobody sees keep these zeros, and what several runs
    // see adds up from them.
    for (std::int64_t t = 0; !head.one_run && t < T; ++t) {
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

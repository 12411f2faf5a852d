// Attention, forward: blocks of 128 queries against blocks of 64 keys, with a running softmax; no
// score ever reaches memory.
//
// For each key block the running state (largest score m, sum l, unnormalised output o) of each
// query is brought up to date:
//
//   s = q·kᵀ;  m' = max(m, max(s));  p = e^(s - m');  l = l·e^(m - m') + sum(p);  o = o·e^(m - m')
//   + p·v
//
// (Milakov and Gimelshein, "Online normalizer calculation for softmax", 2018; Dao et al.,
// "FlashAttention", 2022.) 4·D flops for each pair of query and key.
#include <algorithm>
#include <array>
#include <cmath>

#include "kernels/cpu/device.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/attention.cpp"
#include "hwy/foreach_target.h"
#include "kernels/cpu/attention-inl.h"

HWY_BEFORE_NAMESPACE();
namespace quire::cpu::HWY_NAMESPACE {
namespace {

// Queries of one task: a key block is packed once for all of them. At D = 64 K and V packed are 16 KiB
// each, q and o 32.
constexpr std::int64_t kQueries = 128;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

/// Queries first_query … first_query + count - 1 of one head, all with the same first key.
struct QueryBlock {
  Rows q;      // row 0 is the first query
  float* out;  // rows out_stride apart
  std::int64_t out_stride;
  float* lse;                // [count], or null
  std::int64_t first_query;  // its position among the keys
  std::int64_t count;
  std::int64_t first_key;
  const std::int32_t* blocks = nullptr;  // which row each 64 keys begin at, or null: as they count
};

/// Where attend() works.
struct Workspace {
  float* q;        // [kQueries, width] scaled
  float* o;        // [kQueries, width]
  float* k;        // [D, kKeys]
  float* v;        // [kKeys, width]
  float* s;        // [kTileRows, kKeys] scores, then probabilities
  float* l;        // [kQueries, kLanes] sums, lane by lane
  float* m;        // [kQueries]
  float* factors;  // [kKeys]
};

Workspace workspace_of(ThreadPool& pool, std::int64_t D) {
  const std::int64_t width = round_up_to_lanes(D);
  const auto [q, o, k, v, s, l, m, factors] =
      pool.scratch_arrays<float>(kQueries * width, kQueries * width, D * kKeys, kKeys * width,
                                 kTileRows * kKeys, kQueries * kLanes, kQueries, kKeys);
  return {q, o, k, v, s, l, m, factors};
}

/// Asks for the D floats of rows [first, first + count). Rows of a head lie far apart, 9 KiB in GPT-2's
/// qkv: the processor's own prefetcher does not follow them. Rows that follow each other, as in a
/// cache, it does.
HWY_INLINE void prefetch(Rows rows, std::int64_t first, std::int64_t count, std::int64_t D) {
  constexpr std::int64_t kLine = 64 / sizeof(float);
  if (rows.stride == D) return;
  for (std::int64_t i = first; i < first + count; ++i) {
    for (std::int64_t d = 0; d < D; d += kLine) __builtin_prefetch(rows[i] + d);
  }
}

/// How many keys of a block the rows of a tile see: each one more than the row before, up to `most`.
struct Visible {
  std::int64_t first, most;
  std::int64_t operator[](std::int64_t row) const { return std::min(most, first + row); }
};

/// Calls body(i, count) for the vectors of `visible` scores; of a whole block in known steps.
template <class Body>
HWY_INLINE void for_scores(std::int64_t visible, const Body& body) {
  if (HWY_LIKELY(visible == kKeys)) {
#pragma GCC unroll 4
    for (std::int64_t i = 0; i < kKeys; i += kLanes) body(i, kLanes);
  } else {
    for_vectors(visible, body);
  }
}

/// Turns the scores of a tile of queries into probabilities relative to the running maxima, and
/// scales what the queries have summed up so far. Step by step for all rows, as the steps of one
/// row wait for each other.
HWY_INLINE void update_softmax(float* s, std::int64_t rows, const Visible& visible,
                               std::int64_t width, float* m, float* l, float* o) {
  float now[kTileRows];
  bool grown = false;
  for (std::int64_t row = 0; row < rows; ++row) {
    Vec largest = set(-kInfinity);
    for_scores(visible[row], [&](std::int64_t i, std::int64_t count) QUIRE_INLINE_LAMBDA {
      float* at = s + row * kKeys + i;
      const Vec masked = first_lanes(load(at), count, set(-kInfinity));
      largest = hn::Max(largest, masked);
      if (count < kLanes) store(masked, at);
    });
    now[row] = std::max(m[row], max_lanes(largest));
    grown |= now[row] > m[row];
  }
  if (grown) {
    for (std::int64_t row = 0; row < rows; ++row) {
      if (now[row] == m[row]) continue;
      const Vec correction = exp_bounded(set(m[row] - now[row]));
      m[row] = now[row];
      store(hn::Mul(load(l + row * kLanes), correction), l + row * kLanes);
      float* of_row = o + row * width;
      for (std::int64_t d = 0; d < width; d += kLanes) {
        store(hn::Mul(load(of_row + d), correction), of_row + d);
      }
    }
  }
  for (std::int64_t row = 0; row < rows; ++row) {
    Vec sum = load(l + row * kLanes);
    for_scores(visible[row], [&](std::int64_t i, std::int64_t) QUIRE_INLINE_LAMBDA {
      float* at = s + row * kKeys + i;
      const Vec p = exp_bounded(hn::Sub(load(at), set(now[row])));
      sum = hn::Add(sum, p);
      store(p, at);
    });
    store(sum, l + row * kLanes);
  }
}

/// What was summed, divided by the sum of its shares.
void put_outputs(const QueryBlock& block, std::int64_t width, std::int64_t D, const Workspace& w) {
  for (std::int64_t q = 0; q < block.count; ++q) {
    // Nothing seen: the output is zero and so is the sum.
    const float sum = sum_lanes(load(w.l + q * kLanes));
    const Vec share = set(w.m[q] == -kInfinity ? 0.0f : 1.0f / sum);
    for_vectors(D, [&](std::int64_t d, std::int64_t count) QUIRE_INLINE_LAMBDA {
      store(hn::Mul(load(w.o + q * width + d), share), block.out + q * block.out_stride + d, count);
    });
    if (block.lse != nullptr) block.lse[q] = w.m[q] + std::log(sum);
  }
}

void attend(const QueryBlock& block, Rows keys, Rows values, std::int64_t D, float scale,
            const ProbabilityDropout& dropout, const Workspace& w) {
  const std::int64_t width = round_up_to_lanes(D);
  const std::int64_t last_query = block.first_query + block.count - 1;
  const auto place = [&](std::int64_t key) {
    return block.blocks != nullptr ? block.blocks[key / kKeys] : key;
  };
  // One query, as in decoding, reads its keys where they are; values that lie in whole vectors, as a
  // cache's do, are read there by any number.
  const bool one = block.count == 1 && D % 4 == 0;
  const bool values_lie = values.stride == D && width == D;
  pack_rows(block.q, block.count, D, scale, w.q);
  std::fill(w.o, w.o + block.count * width, 0.0f);
  std::fill(w.l, w.l + block.count * kLanes, 0.0f);
  std::fill(w.m, w.m + block.count, -kInfinity);

  for (std::int64_t key = block.first_key; key <= last_query; key += kKeys) {
    const std::int64_t present = std::min(kKeys, last_query - key + 1);
    const std::int64_t at = place(key);
    if (!one) pack_columns({keys[at], keys.stride}, present, D, w.k);
    if (!values_lie) pack_rows({values[at], values.stride}, present, D, 1.0f, w.v);
    const float* const v = values_lie ? values[at] : w.v;
    // Queries before this block's first key see none of it.
    const std::int64_t from = std::max<std::int64_t>(0, key - block.first_query);
    const bool more = key + kKeys <= last_query;
    for (std::int64_t q = from; q < block.count; q += kTileRows) {
      const std::int64_t rows = std::min<std::int64_t>(kTileRows, block.count - q);
      if (more && q - from < kKeys) {
        const std::int64_t next = place(key + kKeys) + q - from;
        const std::int64_t asked =
            std::min<std::int64_t>(kTileRows, last_query - key - kKeys - (q - from) + 1);
        prefetch(keys, next, asked, D);
        prefetch(values, next, asked, D);
      }
      const Visible visible{block.first_query + q - key + 1, present};
      if (one) {
        // From memory, a head's 2 x 16 KiB a block come too late by the processor's own prefetching,
        // which ends with each page.
        std::array<const float*, 2> ahead{};
        if (more && keys.stride == D && values.stride == D) {
          const std::int64_t next = place(key + kKeys);
          ahead = {keys[next], values[next]};
        }
        scores_of_one(w.q, {keys[at], keys.stride}, visible[0], D, w.s, ahead);
      } else {
        product<Into::overwrite>({w.q + q * width, width, 1, w.k, kKeys, w.s, kKeys}, rows,
                                 round_up_to_lanes(visible[rows - 1]), D);
      }
      update_softmax(w.s, rows, visible, width, w.m + q, w.l + q * kLanes, w.o + q * width);
      for (std::int64_t row = 0; dropout.on && row < rows; ++row) {
        float* s = w.s + row * kKeys;
        dropout.factors_of(block.first_query + q + row, key, w.factors);
        for (std::int64_t i = 0; i < round_up_to_lanes(visible[row]); i += kLanes) {
          store(hn::Mul(load(s + i), load(w.factors + i)), s + i);
        }
      }
      // A masked key is not even multiplied by zero, as 0·infinity would be NaN.
      SmallProduct of_values{w.s, kKeys, 1, v, width, w.o + q * width, width};
      if (rows == kTileRows) {
        of_values.ragged = visible[rows - 1] - visible[0];
        product<Into::add>(of_values, rows, width, visible[0]);
        continue;
      }
      for (std::int64_t row = 0; row < rows; ++row) {
        product<Into::add>(of_values, 1, width, visible[row]);
        of_values.a += kKeys;
        of_values.c += width;
      }
    }
  }
  put_outputs(block, width, D, w);
}

void attention_forward(const AttentionForward& p, ThreadPool& pool) {
  const std::int64_t B = p.out.shape()[0], T = p.out.shape()[1], C = p.out.shape()[2];
  const std::int64_t H = p.heads, D = C / H;
  const std::int64_t blocks = (T + kQueries - 1) / kQueries;
  const float* qkv = p.qkv.data<float>();
  const std::int32_t* first_key = p.first_key ? p.first_key.data<std::int32_t>() : nullptr;
  float* out = p.out.data<float>();
  float* lse = p.lse ? p.lse.data<float>() : nullptr;
  pool.run(B * H * blocks, [&](std::int64_t task) HWY_ATTR {
    // The blocks of a head one after the other: its keys and values stay in cache. The last one has the
    // most keys and goes first, so that no thread is left with a long one at the end.
    const std::int64_t block = blocks - 1 - task % blocks;
    const std::int64_t head = task / blocks;
    const std::int64_t b = head / H, h = head % H;
    const Workspace workspace = workspace_of(pool, D);
    const ProbabilityDropout dropout{p.dropout, p.key, head, T};
    const float* first = qkv + b * T * 3 * C + h * D;
    const std::int64_t end = std::min(T, (block + 1) * kQueries);
    // Packed records: a block may hold several runs of equal first key.
    for (std::int64_t t = block * kQueries; t < end;) {
      const std::int64_t key = first_key != nullptr ? first_key[b * T + t] : 0;
      std::int64_t next = t + 1;
      while (next < end && (first_key == nullptr || first_key[b * T + next] == key)) ++next;
      attend({.q = {first + t * 3 * C, 3 * C},
              .out = out + (b * T + t) * C + h * D,
              .out_stride = C,
              .lse = lse != nullptr ? lse + head * T + t : nullptr,
              .first_query = t,
              .count = next - t,
              .first_key = key},
             {first + C, 3 * C}, {first + 2 * C, 3 * C}, D, p.scale, dropout, workspace);
      t = next;
    }
  });
}

void attention_cached(const AttentionCached& p, ThreadPool& pool) {
  const std::int64_t B = p.out.shape()[0], T = p.out.shape()[1], C = p.out.shape()[2];
  const std::int64_t H = p.heads, D = C / H, N = p.k_cache.shape()[1], M = p.blocks.shape()[1];
  static_assert(kKeys == kCacheBlock);
  const std::int64_t blocks = (T + kQueries - 1) / kQueries;
  const float* qkv = p.qkv.data<float>();
  const std::int32_t* past = p.past.data<std::int32_t>();
  const std::int32_t* cached = p.blocks.data<std::int32_t>();
  float* out = p.out.data<float>();
  float* k_cache = p.k_cache.data<float>();
  float* v_cache = p.v_cache.data<float>();

  // Heads by the row within the head, as they lie in the caches: by the head within the row, reading
  // them from memory takes 6% longer (4 rows of 512 slots).
  const auto append = [&](std::int64_t head) {
    const std::int64_t b = head % B, h = head / B;
    for (std::int64_t t = 0; t < T; ++t) {
      const float* row = qkv + (b * T + t) * 3 * C + h * D;
      const std::int64_t s = past[b] + t;
      const std::int64_t slot = (h * N + cached[b * M + s / kKeys] + s % kKeys) * D;
      std::copy(row + C, row + C + D, k_cache + slot);
      std::copy(row + 2 * C, row + 2 * C + D, v_cache + slot);
    }
  };
  // One block of queries: the head's only task appends for itself.
  // Else all is appended before any task reads.
  if (blocks > 1) pool.run(B * H, append);
  pool.run(B * H * blocks, [&](std::int64_t task) HWY_ATTR {
    const std::int64_t block = blocks - 1 - task % blocks;
    const std::int64_t head = task / blocks;
    const std::int64_t b = head % B, h = head / B;
    if (blocks == 1) append(head);
    const std::int64_t t = block * kQueries;
    attend({.q = {qkv + (b * T + t) * 3 * C + h * D, 3 * C},
            .out = out + (b * T + t) * C + h * D,
            .out_stride = C,
            .lse = nullptr,
            .first_query = past[b] + t,
            .count = std::min(kQueries, T - t),
            .first_key = 0,
            .blocks = cached + b * M},
           {k_cache + h * N * D, D}, {v_cache + h * N * D, D}, D, p.scale,
           ProbabilityDropout{0.0f, {}, head, T}, workspace_of(pool, D));
  });
}

}  // namespace
}  // namespace quire::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace quire::cpu {

QUIRE_CPU_OP(attention_forward, AttentionForward)
QUIRE_CPU_OP(attention_cached, AttentionCached)

}  // namespace quire::cpu
#endif  // HWY_ONCE

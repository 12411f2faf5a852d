// From logits to a token. The long scans over the vocabulary run in vectors and leave few
// candidates; what decides on those runs in double.
#include <algorithm>
#include <cmath>

#include "kernels/cpu/device.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/sampling.cpp"
#include "hwy/foreach_target.h"
#include "kernels/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace quire::cpu::HWY_NAMESPACE {
namespace {

void divide_row(float* row, std::int64_t V, float divisor) {
  for_vectors(V, [&](std::int64_t v, std::int64_t count) QUIRE_INLINE_LAMBDA {
    store(hn::Div(load(row + v, count), set(divisor)), row + v, count);
  });
}

/// The largest of each run of `length` elements. A run that ends in NaN may give NaN.
void maxima_of_runs(const float* row, std::int64_t V, std::int64_t length, float* maxima) {
  for (std::int64_t first = 0; first < V; first += length) {
    *maxima++ = max_of(row + first, std::min(length, V - first));
  }
}

/// Writes the indices of the elements >= threshold; returns how many. NaN is no candidate.
std::int64_t find_at_least(const float* row, std::int64_t V, float threshold,
                           std::int32_t* indices) {
  std::int64_t found = 0;
  std::int64_t v = 0;
  for (; v + kLanes <= V; v += kLanes) {
    if (hn::AllFalse(F32(), hn::Ge(load(row + v), set(threshold)))) continue;
    for (std::int64_t i = v; i < v + kLanes; ++i) {
      indices[found] = static_cast<std::int32_t>(i);
      found += row[i] >= threshold;
    }
  }
  for (; v < V; ++v) {
    if (row[v] >= threshold) indices[found++] = static_cast<std::int32_t>(v);
  }
  return found;
}

/// Everything below the threshold becomes -infinity.
void drop_below(float* row, std::int64_t V, float threshold) {
  const Vec dropped = set(-std::numeric_limits<float>::infinity());
  for_vectors(V, [&](std::int64_t v, std::int64_t count) QUIRE_INLINE_LAMBDA {
    const Vec x = load(row + v, count);
    store(hn::IfThenElse(hn::Lt(x, set(threshold)), dropped, x), row + v, count);
  });
}

/// The lowest index of the largest element; 0 where there is none (all NaN).
std::int32_t argmax(const float* row, std::int64_t V) {
  const float largest = max_of(row, V);
  std::int64_t v = 0;
  while (v + kLanes <= V && hn::AllFalse(F32(), hn::Eq(load(row + v), set(largest)))) v += kLanes;
  for (; v < V; ++v) {
    if (row[v] == largest) return static_cast<std::int32_t>(v);
  }
  return 0;
}

}  // namespace
}  // namespace quire::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace quire::cpu {

HWY_EXPORT(divide_row);
HWY_EXPORT(maxima_of_runs);
HWY_EXPORT(find_at_least);
HWY_EXPORT(drop_below);
HWY_EXPORT(argmax);

namespace {

constexpr float kDropped = -std::numeric_limits<float>::infinity();

/// Candidates of one row: indices of elements that have not been dropped, in rising order.
struct Candidates {
  std::int32_t* indices;  // room for V
  std::int64_t count;
};

/// From the best score down; of equal scores the lower index is the better one.
struct Better {
  const float* row;
  bool operator()(std::int32_t a, std::int32_t b) const {
    return row[a] != row[b] ? row[a] > row[b] : a < b;
  }
};

Candidates candidates_of(const float* row, std::int64_t V, std::int32_t* room) {
  // The lowest finite float keeps -infinity out.
  const float lowest = std::numeric_limits<float>::lowest();
  return {room, HWY_DYNAMIC_DISPATCH(find_at_least)(row, V, lowest, room)};
}

/// The k-th largest element of a row, or -infinity if it has fewer.
float kth_largest(const float* row, std::int64_t V, std::int64_t k, std::int32_t* indices,
                  float* maxima) {
  // The k-th largest of the maxima of runs is at most the k-th largest of all, and close to it: of
  // 50,257 elements it leaves about 60 candidates for k = 50.
  constexpr std::int64_t kRun = 64;
  const std::int64_t runs = (V + kRun - 1) / kRun;
  float threshold = std::numeric_limits<float>::lowest();
  if (k <= runs) {
    HWY_DYNAMIC_DISPATCH(maxima_of_runs)(row, V, kRun, maxima);
    for (float* m = maxima; m < maxima + runs; ++m) *m = std::isnan(*m) ? kDropped : *m;
    std::nth_element(maxima, maxima + (k - 1), maxima + runs, std::greater<>());
    threshold = std::max(threshold, maxima[k - 1]);
  }
  const std::int64_t found = HWY_DYNAMIC_DISPATCH(find_at_least)(row, V, threshold, indices);
  if (found < k) return kDropped;
  std::nth_element(indices, indices + (k - 1), indices + found, Better{row});
  return row[indices[k - 1]];
}

/// Walks down the ranking and drops all that comes after the probability has been reached.
void keep_top_p(float* row, Candidates c, double top_p, std::int64_t least) {
  double largest = kDropped;
  for (std::int64_t i = 0; i < c.count; ++i) largest = std::max(largest, double{row[c.indices[i]]});
  double total = 0.0;
  for (std::int64_t i = 0; i < c.count; ++i) total += std::exp(row[c.indices[i]] - largest);
  double better = 0.0;  // sum over the candidates above this rank
  std::int64_t sorted = 0;
  std::int64_t rank = 0;
  for (; rank < c.count; ++rank) {
    if (rank == sorted) {
      // Few are kept as a rule: the ranking is sorted piece by piece.
      sorted = std::min(c.count, std::max<std::int64_t>(256, 4 * sorted));
      std::partial_sort(c.indices + rank, c.indices + sorted, c.indices + c.count, Better{row});
    }
    // As the ascending form has it: this one and all that is worse sum to at most 1 - top_p.
    if (rank >= least && (total - better) / total <= 1.0 - top_p) break;
    better += std::exp(row[c.indices[rank]] - largest);
  }
  for (; rank < c.count; ++rank) row[c.indices[rank]] = kDropped;
}

void keep_min_p(float* row, Candidates c, double min_p, std::int64_t least) {
  if (c.count <= least) return;
  double largest = kDropped;
  for (std::int64_t i = 0; i < c.count; ++i) largest = std::max(largest, double{row[c.indices[i]]});
  // The best has probability 1 here and stays by itself.
  if (least > 1) {
    std::nth_element(c.indices, c.indices + least, c.indices + c.count, Better{row});
  }
  // Only next to the limit does it take an exponential to decide.
  const double limit = largest + std::log(min_p);
  for (std::int64_t i = least > 1 ? least : 0; i < c.count; ++i) {
    float& score = row[c.indices[i]];
    const bool near = std::abs(score - limit) < 1e-6 * (1.0 + std::abs(limit));
    if (near ? std::exp(score - largest) < min_p : score < limit) score = kDropped;
  }
}

}  // namespace

void CpuDevice::do_repetition_penalty(const RepetitionPenalty& p) {
  const std::int64_t V = p.logits.shape()[1];
  const std::int64_t length = p.history.shape()[1];
  const std::int32_t* history = p.history.data<std::int32_t>();
  const std::int32_t* first = p.first ? p.first.data<std::int32_t>() : nullptr;
  float* logits = p.logits.data<float>();
  pool_.run(p.logits.shape()[0], [&](std::int64_t b) {
    float* row = logits + b * V;
    // Sorted, so that a token that comes again is not punished again.
    const std::int32_t* tokens = history + b * length;
    const std::int64_t start = first != nullptr ? first[b] : 0;
    std::int32_t* distinct = pool_.scratch<std::int32_t>(length - start);
    std::int32_t* end = std::copy(tokens + start, tokens + length, distinct);
    std::sort(distinct, end);
    end = std::unique(distinct, end);
    for (const std::int32_t* token = distinct; token < end; ++token) {
      float& score = row[*token];
      score = score < 0.0f ? score * p.penalty : score / p.penalty;
    }
  });
}

void CpuDevice::do_warp_logits(const WarpLogits& p) {
  const std::int64_t V = p.logits.shape()[1];
  const std::int64_t least = p.min_tokens_to_keep;
  float* logits = p.logits.data<float>();
  pool_.run(p.logits.shape()[0], [&](std::int64_t b) {
    float* row = logits + b * V;
    std::int32_t* indices = pool_.scratch<std::int32_t>(2 * V);
    if (p.temperature != 1.0f) HWY_DYNAMIC_DISPATCH(divide_row)(row, V, p.temperature);
    if (p.top_k > 0) {
      const std::int64_t k = std::max<std::int64_t>(p.top_k, least);
      if (k < V) {
        float* maxima = reinterpret_cast<float*>(indices + V);
        HWY_DYNAMIC_DISPATCH(drop_below)(row, V, kth_largest(row, V, k, indices, maxima));
      }
    }
    if (p.top_p < 1.0f) keep_top_p(row, candidates_of(row, V, indices), p.top_p, least);
    if (p.min_p > 0.0f) keep_min_p(row, candidates_of(row, V, indices), p.min_p, least);
  });
}

void CpuDevice::do_draw_tokens(const DrawTokens& p) {
  const std::int64_t V = p.logits.shape()[1];
  const float* logits = p.logits.data<float>();
  const float* uniforms = p.uniforms.data<float>();
  std::int32_t* tokens = p.tokens.data<std::int32_t>();
  pool_.run(p.logits.shape()[0], [&](std::int64_t b) {
    const float* row = logits + b * V;
    // Exponentials first, the indices of their owners behind them.
    double* weights = pool_.scratch<double>(2 * V);
    const Candidates c = candidates_of(row, V, reinterpret_cast<std::int32_t*>(weights + V));
    double largest = kDropped;
    for (std::int64_t i = 0; i < c.count; ++i) {
      largest = std::max(largest, double{row[c.indices[i]]});
    }
    double total = 0.0;
    for (std::int64_t i = 0; i < c.count; ++i) {
      weights[i] = std::exp(row[c.indices[i]] - largest);
      total += weights[i];
    }
    double cumulative = 0.0;
    std::int32_t token = 0;
    for (std::int64_t i = 0; i < c.count; ++i) {
      const double probability = weights[i] / total;
      // Rounding may leave the whole sum at or below u: then the last possible token is drawn.
      if (probability > 0.0) token = c.indices[i];
      cumulative += probability;
      if (cumulative > double{uniforms[b]}) break;
    }
    tokens[b] = token;
  });
}

void CpuDevice::do_argmax_tokens(const ArgmaxTokens& p) {
  const std::int64_t V = p.logits.shape()[1];
  const float* logits = p.logits.data<float>();
  std::int32_t* tokens = p.tokens.data<std::int32_t>();
  pool_.run(p.logits.shape()[0],
            [&](std::int64_t b) { tokens[b] = HWY_DYNAMIC_DISPATCH(argmax)(logits + b * V, V); });
}

}  // namespace quire::cpu
#endif  // HWY_ONCE

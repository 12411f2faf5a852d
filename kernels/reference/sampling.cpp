// From logits to a token: the penalty, the filters, the draw.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <set>

#include "kernels/reference/formulas.h"
#include "kernels/reference/reference_device.h"

namespace quire::reference {
namespace {

constexpr float kDropped = -std::numeric_limits<float>::infinity();

std::span<float> row_of(const View& logits, std::int64_t b) {
  const std::int64_t V = logits.shape()[1];
  return {logits.data<float>() + b * V, static_cast<std::size_t>(V)};
}

/// Indices from the best score to the worst; of equal scores the lower index is the better one.
std::vector<std::size_t> ranking(std::span<const float> scores) {
  std::vector<std::size_t> order(scores.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return scores[a] > scores[b]; });
  return order;
}

std::vector<double> softmax(std::span<const float> scores) {
  const double largest = *std::max_element(scores.begin(), scores.end());
  std::vector<double> p(scores.size());
  double sum = 0.0;
  for (std::size_t v = 0; v < p.size(); ++v) sum += p[v] = std::exp(scores[v] - largest);
  for (double& value : p) value /= sum;
  return p;
}

void keep_top_k(std::span<float> scores, std::size_t k) {
  if (k >= scores.size()) return;
  const float threshold = scores[ranking(scores)[k - 1]];
  for (float& score : scores) {
    if (score < threshold) score = kDropped;  // what equals the k-th stays
  }
}

void keep_top_p(std::span<float> scores, double top_p, std::size_t least) {
  const std::vector<double> p = softmax(scores);
  const std::vector<std::size_t> order = ranking(scores);
  double cumulative = 0.0;  // from the worst upwards
  for (std::size_t rank = order.size(); rank-- > least;) {
    cumulative += p[order[rank]];
    if (cumulative > 1.0 - top_p) break;
    scores[order[rank]] = kDropped;
  }
}

void keep_min_p(std::span<float> scores, double min_p, std::size_t least) {
  const std::vector<double> p = softmax(scores);
  const std::vector<std::size_t> order = ranking(scores);
  for (std::size_t rank = least; rank < order.size(); ++rank) {
    if (p[order[rank]] < min_p * p[order[0]]) scores[order[rank]] = kDropped;
  }
}

}  // namespace

void ReferenceDevice::do_repetition_penalty(const RepetitionPenalty& p) {
  const std::int64_t length = p.history.shape()[1];
  const auto history = ids(p.history), first = ids(p.first);
  for (std::int64_t b = 0; b < p.logits.shape()[0]; ++b) {
    const auto row = history.subspan(b * length, length).subspan(first.empty() ? 0 : first[b]);
    const std::span<float> scores = row_of(p.logits, b);
    for (const std::int32_t token : std::set<std::int32_t>(row.begin(), row.end())) {
      float& score = scores[token];
      score = score < 0.0f ? score * p.penalty : score / p.penalty;
    }
  }
}

void ReferenceDevice::do_warp_logits(const WarpLogits& p) {
  const auto least = static_cast<std::size_t>(p.min_tokens_to_keep);
  for (std::int64_t b = 0; b < p.logits.shape()[0]; ++b) {
    const std::span<float> scores = row_of(p.logits, b);
    if (p.temperature != 1.0f) {
      for (float& score : scores) score /= p.temperature;
    }
    if (p.top_k > 0) keep_top_k(scores, std::max(static_cast<std::size_t>(p.top_k), least));
    if (p.top_p < 1.0f) keep_top_p(scores, p.top_p, least);
    if (p.min_p > 0.0f) keep_min_p(scores, p.min_p, least);
  }
}

void ReferenceDevice::do_draw_tokens(const DrawTokens& p) {
  const std::int64_t V = p.logits.shape()[1];
  for (std::int64_t b = 0; b < p.logits.shape()[0]; ++b) {
    const std::vector<double> probabilities =
        softmax({p.logits.data<float>() + b * V, static_cast<std::size_t>(V)});
    const double u = p.uniforms.data<float>()[b];
    double cumulative = 0.0;
    std::int32_t token = 0;
    for (std::size_t v = 0; v < probabilities.size(); ++v) {
      // Rounding may leave the whole sum at or below u: then the last possible token is drawn.
      if (probabilities[v] > 0.0) token = static_cast<std::int32_t>(v);
      cumulative += probabilities[v];
      if (cumulative > u) break;
    }
    p.tokens.data<std::int32_t>()[b] = token;
  }
}

void ReferenceDevice::do_argmax_tokens(const ArgmaxTokens& p) {
  const std::int64_t V = p.logits.shape()[1];
  for (std::int64_t b = 0; b < p.logits.shape()[0]; ++b) {
    const float* row = p.logits.data<float>() + b * V;
    p.tokens.data<std::int32_t>()[b] =
        static_cast<std::int32_t>(std::max_element(row, row + V) - row);
  }
}

}  // namespace quire::reference

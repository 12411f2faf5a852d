#include "engine/generation/sampler.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace quire {

std::vector<std::pair<std::int32_t, float>> best_logprobs(std::span<const float> logits, int k) {
  std::vector<std::pair<std::int32_t, float>> best;
  for (const float logit : logits) best.emplace_back(static_cast<std::int32_t>(best.size()), logit);
  const auto count = std::min<std::ptrdiff_t>(k, std::ssize(best));
  std::partial_sort(best.begin(), best.begin() + count, best.end(),
                    [](const auto& a, const auto& b) {
                      return a.second != b.second ? a.second > b.second : a.first < b.first;
                    });
  best.resize(static_cast<std::size_t>(count));
  const double largest = best[0].second;
  double sum = 0.0;
  for (const float logit : logits) sum += std::exp(logit - largest);
  for (auto& [id, logit] : best) logit = static_cast<float>(logit - largest - std::log(sum));
  return best;
}

namespace {

/// Rows that are next to each other and share their options.
struct Run {
  std::size_t first = 0, count = 0;
};

std::vector<Run> runs_of(std::span<const SamplerRow> rows) {
  std::vector<Run> runs;
  for (std::size_t r = 0; r < rows.size(); ++r) {
    if (r == 0 || rows[r].options != rows[r - 1].options) runs.push_back({r, 0});
    ++runs.back().count;
  }
  return runs;
}

View rows_of(View view, const Run& run) {
  return view.rows(static_cast<std::int64_t>(run.first), static_cast<std::int64_t>(run.count));
}

bool change_scores(const SamplerRow& row) {
  return row.options->config.do_sample || !row.options->processors.empty();
}

}  // namespace

Sampler::Sampler(Device& device, int max_batch, int max_length, int vocab_size)
    : device_(device),
      max_batch_(static_cast<std::size_t>(max_batch)),
      max_length_(static_cast<std::size_t>(max_length)),
      vocab_size_(static_cast<std::size_t>(vocab_size)),
      results_(device, max_batch_ * (sizeof(std::int32_t) + sizeof(float))) {}

std::vector<SampledToken> Sampler::next(View logits, std::span<const SamplerRow> rows) {
  const std::int64_t batch = logits.shape()[0];
  ConstView of_model = logits;  // for the log-probabilities, which are those before any change
  if (std::any_of(rows.begin(), rows.end(), change_scores)) {
    // One copy of B·V floats, 0.2 MB a row: nothing beside the 500 MB of weights that made them.
    if (model_logits_.size() == 0) {
      model_logits_ = Buffer(device_, max_batch_ * vocab_size_ * sizeof(float));
    }
    device_.copy(model_logits_.data(), logits.bytes(), logits.size_bytes());
    of_model = ConstView(static_cast<const float*>(model_logits_.data()), logits.shape());
  }
  process(logits, rows, /*of_beams=*/false);

  const View tokens(static_cast<std::int32_t*>(results_.data()), {batch});
  for (const Run& run : runs_of(rows)) {
    if (!rows[run.first].options->config.do_sample) {
      device_.argmax_tokens({.tokens = rows_of(tokens, run), .logits = rows_of(logits, run)});
      continue;
    }
    std::vector<float> draws;  // a number per row: its stream at its own step
    for (const SamplerRow& r : rows.subspan(run.first, run.count)) {
      draws.push_back(random_uniform(r.key, static_cast<std::uint64_t>(r.row.new_tokens())));
    }
    if (uniforms_.size() == 0) uniforms_ = Buffer(device_, max_batch_ * sizeof(float));
    const View uniforms = rows_of(View(static_cast<float*>(uniforms_.data()), {batch}), run);
    device_.copy_to_device(uniforms.bytes(), draws.data(), uniforms.size_bytes());
    device_.draw_tokens(
        {.tokens = rows_of(tokens, run), .logits = rows_of(logits, run), .uniforms = uniforms});
  }
  return read_results(tokens, of_model, rows);
}

const AllScores& Sampler::score_all(View logits, std::span<const SamplerRow> rows) {
  auto& [of_model, scores] = all_;
  // 1. log p = logit - log(sum(exp)), where the sum comes from the loss of token 0.
  const View tokens(static_cast<std::int32_t*>(results_.data()), {logits.shape()[0]});
  device_.fill_zero(tokens.bytes(), tokens.size_bytes());
  const View losses = losses_of(tokens, logits);
  std::vector<float> loss(rows.size());
  device_.copy_to_host(loss.data(), losses.bytes(), losses.size_bytes());
  of_model.resize(static_cast<std::size_t>(logits.count()));
  device_.copy_to_host(of_model.data(), logits.bytes(), logits.size_bytes());
  for (std::size_t r = 0; r < loss.size(); ++r) {
    float* const row = of_model.data() + r * vocab_size_;
    const float log_sum = loss[r] + row[0];
    for (std::size_t v = 0; v < vocab_size_; ++v) row[v] -= log_sum;
  }
  // 2. Processors and warpers
  scores = of_model;
  if (std::none_of(rows.begin(), rows.end(), change_scores)) return all_;
  device_.copy_to_device(logits.bytes(), scores.data(), logits.size_bytes());
  process(logits, rows, /*of_beams=*/true);
  device_.copy_to_host(scores.data(), logits.bytes(), logits.size_bytes());
  return all_;
}

void Sampler::process(View logits, std::span<const SamplerRow> rows, bool of_beams) {
  for (const Run& run : runs_of(rows)) {
    const auto& [config, processors] = *rows[run.first].options;
    const View scores = rows_of(logits, run);
    apply(processors, scores, rows.subspan(run.first, run.count));
    if (!config.do_sample) continue;
    const std::size_t ends = of_beams ? config.eos_token_ids.size() : 0;  // that must leave one
    device_.warp_logits({.logits = scores,
                         .temperature = config.temperature,
                         .top_k = config.top_k,
                         .top_p = config.top_p,
                         .min_p = config.min_p,
                         .min_tokens_to_keep = 1 + static_cast<int>(ends)});
  }
}

void Sampler::apply(const Processors& processors, View logits, std::span<const SamplerRow> rows) {
  if (processors.empty()) return;
  if (const float penalty = processors[0].repetition_penalty;
      processors.size() == 1 && penalty != 1.0f) {
    return penalize(penalty, logits, rows);
  }
  float* scores = nullptr;  // [B, V] on the host
  if (device_.shares_host_memory()) {
    device_.synchronize();
    scores = logits.data<float>();
  } else {
    host_logits_.resize(static_cast<std::size_t>(logits.count()));
    scores = host_logits_.data();
    device_.copy_to_host(scores, logits.bytes(), logits.size_bytes());
  }
  for (std::size_t r = 0; r < rows.size(); ++r) {
    for (const Processor& processor : processors) {
      processor.apply(rows[r].row, {scores + r * vocab_size_, vocab_size_});
    }
  }
  if (!device_.shares_host_memory()) {
    device_.copy_to_device(logits.bytes(), scores, logits.size_bytes());
  }
}

void Sampler::penalize(float penalty, View logits, std::span<const SamplerRow> rows) {
  if (history_.size() == 0) {
    history_ = Buffer(device_, max_batch_ * (max_length_ + 1) * sizeof(std::int32_t));
  }
  std::size_t longest = 0;
  for (const SamplerRow& r : rows) longest = std::max(longest, r.row.ids.size());
  const std::size_t count = rows.size() * longest;
  host_history_.assign(count + rows.size(), 0);
  for (std::size_t r = 0; r < rows.size(); ++r) {
    const auto& ids = rows[r].row.ids;
    const std::size_t first = longest - ids.size();
    std::ranges::copy(ids, host_history_.data() + r * longest + first);
    host_history_[count + r] = static_cast<std::int32_t>(first);
  }
  const auto batch = std::ssize(rows), tokens = static_cast<std::int64_t>(count);
  const View history(static_cast<std::int32_t*>(history_.data()), {tokens + batch});
  device_.copy_to_device(history.bytes(), host_history_.data(), history.size_bytes());
  device_.repetition_penalty({.logits = logits,
                              .history = history.rows(0, tokens).reshaped({batch, tokens / batch}),
                              .first = history.rows(tokens, batch),
                              .penalty = penalty});
}

View Sampler::losses_of(View tokens, ConstView logits) {
  const std::int64_t batch = tokens.count();
  const View losses(reinterpret_cast<float*>(tokens.data<std::int32_t>() + batch), {batch});
  device_.cross_entropy_forward({.losses = losses, .logits = logits, .targets = tokens});
  return losses;
}

std::vector<SampledToken> Sampler::read_results(View tokens, ConstView logits,
                                                std::span<const SamplerRow> rows) {
  losses_of(tokens, logits);
  // Tokens and losses lie side by side: one copy, the only one of a step.
  std::vector<std::int32_t> results(2 * rows.size());
  device_.copy_to_host(results.data(), tokens.bytes(), results.size() * sizeof(std::int32_t));
  std::vector<SampledToken> sampled(rows.size());
  std::vector<float> row;
  for (std::size_t r = 0; r < sampled.size(); ++r) {
    sampled[r].id = results[r];
    sampled[r].logprob = -std::bit_cast<float>(results[sampled.size() + r]);
    const int best = rows[r].options->config.top_logprobs;
    if (best == 0) continue;
    row.resize(vocab_size_);
    device_.copy_to_host(row.data(), logits.data<float>() + r * vocab_size_,
                         vocab_size_ * sizeof(float));
    sampled[r].top = best_logprobs(row, best);
  }
  return sampled;
}

}  // namespace quire

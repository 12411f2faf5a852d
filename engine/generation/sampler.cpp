#include "engine/generation/sampler.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>

namespace quire {

std::vector<std::pair<std::int32_t, float>> best_logprobs(std::span<const float> logits, int k) {
  std::vector<std::int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  const auto count = std::min<std::ptrdiff_t>(k, std::ssize(order));
  const auto better = [&](std::int32_t a, std::int32_t b) {
    const float x = logits[static_cast<std::size_t>(a)];
    const float y = logits[static_cast<std::size_t>(b)];
    return x != y ? x > y : a < b;
  };
  std::partial_sort(order.begin(), order.begin() + count, order.end(), better);
  const double largest = logits[static_cast<std::size_t>(order[0])];
  double sum = 0.0;
  for (const float logit : logits) sum += std::exp(logit - largest);
  std::vector<std::pair<std::int32_t, float>> best;
  for (std::ptrdiff_t i = 0; i < count; ++i) {
    const std::int32_t id = order[static_cast<std::size_t>(i)];
    best.emplace_back(
        id, static_cast<float>(logits[static_cast<std::size_t>(id)] - largest - std::log(sum)));
  }
  return best;
}

Sampler::Sampler(Device& device, const GenerationConfig& config, int max_batch, int max_length,
                 int vocab_size)
    : device_(device),
      config_(config),
      vocab_size_(vocab_size),
      before_penalty_(processors_before_penalty(config)),
      after_penalty_(processors_after_penalty(config)) {
  const auto rows = static_cast<std::size_t>(max_batch);
  const auto logits_bytes = rows * static_cast<std::size_t>(vocab_size) * sizeof(float);
  results_ = Buffer(device, rows * (sizeof(std::int32_t) + sizeof(float)));
  if (changes_logits()) model_logits_ = Buffer(device, logits_bytes);
  if (config.do_sample) uniforms_ = Buffer(device, rows * sizeof(float));
  if (config.repetition_penalty != 1.0f) {
    history_ = Buffer(device, rows * static_cast<std::size_t>(max_length) * sizeof(std::int32_t));
    first_ = Buffer(device, rows * sizeof(std::int32_t));
  }
}

std::vector<SampledToken> Sampler::next(View logits, std::span<const SamplerRow> rows) {
  const std::int64_t batch = logits.shape()[0];
  ConstView of_model = logits;  // for the log-probabilities, which are those before any change
  if (changes_logits()) {
    // One copy of B·V floats, 0.2 MB a row: nothing beside the 500 MB of weights that made them.
    device_.copy(model_logits_.data(), logits.bytes(), logits.size_bytes());
    of_model = ConstView(static_cast<const float*>(model_logits_.data()), logits.shape());
  }
  apply(before_penalty_, logits, rows);
  if (config_.repetition_penalty != 1.0f) penalize(logits, rows);
  apply(after_penalty_, logits, rows);

  const View tokens(static_cast<std::int32_t*>(results_.data()), {batch});
  if (config_.do_sample) {
    device_.warp_logits({.logits = logits,
                         .temperature = config_.temperature,
                         .top_k = config_.top_k,
                         .top_p = config_.top_p,
                         .min_p = config_.min_p});
    std::vector<float> draws;  // a number per row: its stream at its own step
    for (const SamplerRow& r : rows) {
      draws.push_back(random_uniform(r.key, static_cast<std::uint64_t>(r.row.new_tokens())));
    }
    device_.copy_to_device(uniforms_.data(), draws.data(), draws.size() * sizeof(float));
    const ConstView uniforms(static_cast<const float*>(uniforms_.data()), {batch});
    device_.draw_tokens({.tokens = tokens, .logits = logits, .uniforms = uniforms});
  } else {
    device_.argmax_tokens({.tokens = tokens, .logits = logits});
  }

  return read_results(tokens, of_model);
}

bool Sampler::changes_logits() const {
  return config_.do_sample || config_.repetition_penalty != 1.0f || !before_penalty_.empty() ||
         !after_penalty_.empty();
}

void Sampler::apply(const Processors& processors, View logits, std::span<const SamplerRow> rows) {
  if (processors.empty()) return;
  const auto vocab_size = static_cast<std::size_t>(logits.shape()[1]);
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
    for (const auto& processor : processors) {
      processor->apply(rows[r].row, {scores + r * vocab_size, vocab_size});
    }
  }
  if (!device_.shares_host_memory()) {
    device_.copy_to_device(logits.bytes(), scores, logits.size_bytes());
  }
}

void Sampler::penalize(View logits, std::span<const SamplerRow> rows) {
  std::size_t longest = 0;
  for (const SamplerRow& r : rows) longest = std::max(longest, r.row.ids.size());
  std::vector<std::int32_t> first;
  host_history_.assign(rows.size() * longest, 0);
  for (std::size_t r = 0; r < rows.size(); ++r) {
    const auto& ids = rows[r].row.ids;
    first.push_back(static_cast<std::int32_t>(longest - ids.size()));
    std::copy(ids.begin(), ids.end(),
              host_history_.begin() + static_cast<std::ptrdiff_t>((r + 1) * longest - ids.size()));
  }
  const auto batch = std::ssize(rows);
  device_.copy_to_device(history_.data(), host_history_.data(),
                         host_history_.size() * sizeof(std::int32_t));
  device_.copy_to_device(first_.data(), first.data(), first.size() * sizeof(std::int32_t));
  device_.repetition_penalty(
      {.logits = logits,
       .history = ConstView(static_cast<const std::int32_t*>(history_.data()),
                            {batch, static_cast<std::int64_t>(longest)}),
       .first = ConstView(static_cast<const std::int32_t*>(first_.data()), {batch}),
       .penalty = config_.repetition_penalty});
}

std::vector<SampledToken> Sampler::read_results(View tokens, ConstView logits) {
  const std::int64_t batch = tokens.count();
  const View losses(reinterpret_cast<float*>(tokens.data<std::int32_t>() + batch), {batch});
  device_.cross_entropy_forward({.losses = losses, .logits = logits, .targets = tokens});

  // Tokens and losses lie side by side: one copy, the only one of a step.
  std::vector<std::int32_t> results(static_cast<std::size_t>(2 * batch));
  device_.copy_to_host(results.data(), tokens.bytes(), results.size() * sizeof(std::int32_t));
  std::vector<SampledToken> sampled(static_cast<std::size_t>(batch));
  for (std::size_t r = 0; r < sampled.size(); ++r) {
    sampled[r].id = results[r];
    sampled[r].logprob = -std::bit_cast<float>(results[sampled.size() + r]);
  }
  if (config_.top_logprobs == 0) return sampled;

  std::vector<float> row(static_cast<std::size_t>(vocab_size_));
  for (std::size_t r = 0; r < sampled.size(); ++r) {
    device_.copy_to_host(row.data(), logits.data<float>() + r * row.size(),
                         row.size() * sizeof(float));
    sampled[r].top = best_logprobs(row, config_.top_logprobs);
  }
  return sampled;
}

}  // namespace quire

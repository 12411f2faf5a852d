#include "engine/generation/sampler.h"

#include <cmath>
#include <numeric>

#include "tests/engine/generation/tiny_model.h"
#include "tests/support/catch.h"

using namespace quire;

namespace {

constexpr int kVocab = 23;
constexpr int kRows = 50;

/// Logits whose softmax is proportional to 1, 2, 3, …
std::vector<float> ramp() {
  std::vector<float> logits;
  for (int v = 0; v < kVocab; ++v) logits.push_back(std::log(static_cast<float>(v + 1)));
  return logits;
}

/// Draws `steps` tokens in each of kRows rows of equal logits; returns how often each came.
std::vector<int> draw(Device& device, const GenerationConfig& config, int steps) {
  Sampler sampler(device, kRows, steps + 1, kVocab);
  const RowOptions options(config);
  Buffer memory(device, sizeof(float) * kRows * kVocab);
  const View logits(static_cast<float*>(memory.data()), {kRows, kVocab});
  std::vector<float> host;
  for (int r = 0; r < kRows; ++r) {
    const std::vector<float> row = ramp();
    host.insert(host.end(), row.begin(), row.end());
  }
  std::vector<int> counts(kVocab);
  std::vector<std::int32_t> ids = {0};
  for (int step = 0; step < steps; ++step, ids.push_back(0)) {
    device.copy_to_device(logits.bytes(), host.data(), logits.size_bytes());
    std::vector<SamplerRow> rows;
    for (int r = 0; r < kRows; ++r) {
      rows.push_back({.options = &options,
                      .row = {.ids = ids, .prompt_length = 1, .max_length = steps + 1},
                      .key = {config.seed, static_cast<std::uint64_t>(r)}});
    }
    for (const SampledToken& token : sampler.next(logits, rows)) {
      ++counts[static_cast<std::size_t>(token.id)];
    }
  }
  return counts;
}

/// Pearson's statistic against probabilities proportional to `weights`, which has the mean and
/// variance of a chi-square with (outcomes - 1) degrees of freedom;
/// six standard deviations above the mean.
void check_distribution(const std::vector<int>& counts, const std::vector<double>& weights) {
  const double total = std::accumulate(counts.begin(), counts.end(), 0.0);
  const double weight = std::accumulate(weights.begin(), weights.end(), 0.0);
  double statistic = 0;
  int outcomes = 0;
  for (std::size_t v = 0; v < counts.size(); ++v) {
    if (weights[v] == 0) {
      CHECK(counts[v] == 0);
      continue;
    }
    const double expected = total * weights[v] / weight;
    statistic += (counts[v] - expected) * (counts[v] - expected) / expected;
    ++outcomes;
  }
  const double freedom = outcomes - 1;
  CHECK(statistic <= freedom + 6 * std::sqrt(2 * freedom));
}

}  // namespace

TEST_CASE("draws have the distribution of the filtered scores") {
  const auto reference = open_reference_device();
  const auto cpu = open_device("cpu");
  for (Device* device : {reference.get(), cpu.get()}) {
    GenerationConfig config;
    config.do_sample = true;
    config.top_k = 0;
    std::vector<double> weights(kVocab);
    std::iota(weights.begin(), weights.end(), 1.0);

    SECTION("as they are") {
      check_distribution(draw(*device, config, 200), weights);
    }
    SECTION("at temperature 0.5: squared") {
      config.temperature = 0.5f;
      for (double& w : weights) w *= w;
      check_distribution(draw(*device, config, 200), weights);
    }
    SECTION("of the five likeliest") {
      config.top_k = 5;
      std::fill(weights.begin(), weights.end() - 5, 0.0);
      check_distribution(draw(*device, config, 200), weights);
    }
    SECTION("with at least half the largest probability") {
      config.min_p = 0.499f;  // 12/23 stays, 11/23 goes
      std::fill(weights.begin(), weights.begin() + 11, 0.0);
      check_distribution(draw(*device, config, 200), weights);
    }
    SECTION("of the nucleus") {
      // 23 + 22 + 21 + 20 + 19 + 18 + 17 = 140 of 276 is the first sum at or above half.
      config.top_p = 0.5f;
      std::fill(weights.begin(), weights.end() - 7, 0.0);
      check_distribution(draw(*device, config, 200), weights);
    }
  }
}

TEST_CASE("the repetition penalty sees prompt and output of its own row, without padding") {
  const auto device = open_reference_device();
  GenerationConfig config;
  config.repetition_penalty = 2.0f;
  Sampler sampler(*device, 3, 4, kVocab);
  const RowOptions options(config);
  std::vector<float> host;
  for (int r = 0; r < 3; ++r) {
    const std::vector<float> row = ramp();
    host.insert(host.end(), row.begin(), row.end());
  }
  const View logits(host.data(), {3, kVocab});
  const std::vector<std::int32_t> a = {22, 21, 22}, b = {22}, c = {1, 2, 3, 0};
  const std::vector<SamplerRow> rows = {
      {.options = &options, .row = {.ids = a, .prompt_length = 2}},
      {.options = &options, .row = {.ids = b, .prompt_length = 1}},
      {.options = &options, .row = {.ids = c, .prompt_length = 1}}};
  const std::vector<SampledToken> tokens = sampler.next(logits, rows);
  CHECK(tokens[0].id == 20);
  CHECK(tokens[1].id == 21);
  CHECK(tokens[2].id == 22);
  // What the model thought, not what the penalty made of it: 21/276.
  CHECK(tokens[0].logprob == Approx(std::log(21.0 / 276)).epsilon(1e-6));
}

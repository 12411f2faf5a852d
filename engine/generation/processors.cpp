#include "engine/generation/processors.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>
#include <utility>

namespace quire {

namespace {

using Tokens = GenerationConfig::Tokens;

constexpr float kNever = -std::numeric_limits<float>::infinity();

/// Ids outside the vocabulary are legal in the options (a default eos of another vocabulary, say)
/// and touch nothing.
void set(std::span<float> scores, std::int32_t id, float value) {
  if (id >= 0 && static_cast<std::size_t>(id) < scores.size())
    scores[static_cast<std::size_t>(id)] = value;
}

bool ends_with(std::span<const std::int32_t> ids, std::span<const std::int32_t> tail) {
  return tail.size() <= ids.size() && std::ranges::equal(tail, ids.last(tail.size()));
}

/// Adds the bias to a sequence's last token where the tokens before it stand at the end of the row.
/// As in transformers, a sequence longer than the row is skipped,
/// even if all but its last token fit.
Processor sequence_bias(std::vector<std::pair<Tokens, float>> biases) {
  return {[biases = std::move(biases)](const Row& row, std::span<float> scores) {
    for (const auto& [sequence, bias] : biases) {
      if (sequence.size() > 1 && sequence.size() > row.ids.size()) continue;
      if (!ends_with(row.ids, std::span(sequence).first(sequence.size() - 1))) continue;
      const auto last = static_cast<std::size_t>(sequence.back());
      if (last < scores.size()) scores[last] += bias;
    }
  }};
}

/// kernels/ops.h's RepetitionPenalty, for one row.
Processor repetition(float penalty) {
  const auto apply = [penalty](const Row& row, std::span<float> scores) {
    for (const std::int32_t id : std::set<std::int32_t>(row.ids.begin(), row.ids.end())) {
      float& score = scores[static_cast<std::size_t>(id)];
      score = score < 0 ? score * penalty : score / penalty;
    }
  };
  return {.apply = apply, .repetition_penalty = penalty};
}

/// Forbids every token that would complete an n-gram which the row already holds.
Processor no_repeat_ngram(int n) {
  return {[n](const Row& row, std::span<float> scores) {
    if (row.length() + 1 < n) return;
    const std::size_t prefix = static_cast<std::size_t>(n) - 1;
    const auto last = row.ids.last(prefix);
    for (std::size_t begin = 0; begin + prefix < row.ids.size(); ++begin) {
      if (std::ranges::equal(last, row.ids.subspan(begin, prefix))) {
        set(scores, row.ids[begin + prefix], kNever);
      }
    }
  }};
}

/// From `start` new tokens on, raises the eos by |score|·(factor^(tokens since then) - 1).
Processor exponential_decay(int start, float factor, const Tokens& eos) {
  return {[=](const Row& row, std::span<float> scores) {
    const int since = row.new_tokens() - start;
    if (since <= 0) return;
    const float growth = static_cast<float>(std::pow(static_cast<double>(factor), since) - 1.0);
    for (const std::int32_t id : eos) {
      if (id < 0 || static_cast<std::size_t>(id) >= scores.size()) continue;
      float& score = scores[static_cast<std::size_t>(id)];
      if (score != kNever) score += std::fabs(score) * growth;  // -inf + inf would be NaN
    }
  }};
}

/// Forbids tokens where the row is so.
template <class Condition>
Processor forbid(Tokens tokens, Condition condition) {
  return {[tokens = std::move(tokens), condition](const Row& row, std::span<float> scores) {
    if (!condition(row)) return;
    for (const std::int32_t id : tokens) set(scores, id, kNever);
  }};
}

/// Leaves nothing but the eos for the last token that the length allows.
Processor forced_eos(Tokens eos) {
  return {[eos = std::move(eos)](const Row& row, std::span<float> scores) {
    if (row.length() != row.max_length - 1) return;
    std::fill(scores.begin(), scores.end(), kNever);
    for (const std::int32_t id : eos) set(scores, id, 0.0f);
  }};
}

}  // namespace

Processors make_processors(const GenerationConfig& config) {
  Processors list;
  const Tokens& eos = config.eos_token_ids;
  if (!config.sequence_bias.empty()) list.push_back(sequence_bias(config.sequence_bias));
  if (config.repetition_penalty != 1.0f) list.push_back(repetition(config.repetition_penalty));
  if (config.no_repeat_ngram_size > 0) list.push_back(no_repeat_ngram(config.no_repeat_ngram_size));
  // A bad word is a sequence with a bias of -infinity; one that is just [eos] is ignored.
  std::vector<std::pair<Tokens, float>> bad_words;
  for (const Tokens& word : config.bad_words_ids) {
    const bool is_eos = word.size() == 1 && std::count(eos.begin(), eos.end(), word[0]) > 0;
    if (!is_eos) bad_words.emplace_back(word, kNever);
  }
  if (!bad_words.empty()) list.push_back(sequence_bias(std::move(bad_words)));
  // min_new_tokens takes min_length's place, even as 0:
  // transformers' _prepare_generated_length().
  const int least = config.min_new_tokens, shortest = config.min_length;
  if (!eos.empty() && least >= 0) {
    list.push_back(forbid(eos, [least](const Row& row) { return row.new_tokens() < least; }));
  } else if (!eos.empty() && shortest > 0) {
    list.push_back(forbid(eos, [shortest](const Row& row) { return row.length() < shortest; }));
  }
  if (!config.forced_eos_token_id.empty()) list.push_back(forced_eos(config.forced_eos_token_id));
  if (config.exponential_decay_length_penalty && !eos.empty()) {
    const auto [start, factor] = *config.exponential_decay_length_penalty;
    list.push_back(exponential_decay(start, factor, eos));
  }
  if (!config.suppress_tokens.empty()) {
    list.push_back(forbid(config.suppress_tokens, [](const Row&) { return true; }));
  }
  if (!config.begin_suppress_tokens.empty()) {
    list.push_back(
        forbid(config.begin_suppress_tokens, [](const Row& row) { return row.new_tokens() == 0; }));
  }
  return list;
}

}  // namespace quire

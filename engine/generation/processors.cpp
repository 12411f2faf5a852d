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
  return tail.size() <= ids.size() &&
         std::equal(tail.begin(), tail.end(), ids.end() - std::ssize(tail));
}

/// Adds the bias to a sequence's last token where the tokens before it stand at the end of the row.
/// As in transformers, a sequence longer than the row is skipped,
/// even if all but its last token fit.
class SequenceBias : public Processor {
 public:
  explicit SequenceBias(std::vector<std::pair<Tokens, float>> biases)
      : biases_(std::move(biases)) {}
  void apply(const Row& row, std::span<float> scores) const override {
    for (const auto& [sequence, bias] : biases_) {
      if (sequence.size() > 1 && sequence.size() > row.ids.size()) continue;
      if (!ends_with(row.ids, std::span(sequence).first(sequence.size() - 1))) continue;
      const auto last = static_cast<std::size_t>(sequence.back());
      if (last < scores.size()) scores[last] += bias;
    }
  }

 private:
  std::vector<std::pair<Tokens, float>> biases_;
};

/// Forbids every token that would complete an n-gram which the row already holds.
class NoRepeatNgram : public Processor {
 public:
  explicit NoRepeatNgram(int n) : n_(n) {}
  void apply(const Row& row, std::span<float> scores) const override {
    if (row.length() + 1 < n_) return;
    const std::size_t prefix = static_cast<std::size_t>(n_) - 1;
    const auto last = row.ids.last(prefix);
    for (std::size_t begin = 0; begin + prefix < row.ids.size(); ++begin) {
      if (std::equal(last.begin(), last.end(),
                     row.ids.begin() + static_cast<std::ptrdiff_t>(begin))) {
        set(scores, row.ids[begin + prefix], kNever);
      }
    }
  }

 private:
  int n_;
};

/// Forbids the eos while the row is shorter than `minimum`, counted with or without the prompt.
class MinimumLength : public Processor {
 public:
  enum class Counting { all_tokens, new_tokens };
  MinimumLength(int minimum, Counting counting, Tokens eos)
      : minimum_(minimum), counting_(counting), eos_(std::move(eos)) {}
  void apply(const Row& row, std::span<float> scores) const override {
    if ((counting_ == Counting::all_tokens ? row.length() : row.new_tokens()) >= minimum_) return;
    for (const std::int32_t id : eos_) set(scores, id, kNever);
  }

 private:
  int minimum_;
  Counting counting_;
  Tokens eos_;
};

/// Leaves nothing but the eos for the last token that the length allows.
class ForcedEos : public Processor {
 public:
  explicit ForcedEos(Tokens eos) : eos_(std::move(eos)) {}
  void apply(const Row& row, std::span<float> scores) const override {
    if (row.length() != row.max_length - 1) return;
    std::fill(scores.begin(), scores.end(), kNever);
    for (const std::int32_t id : eos_) set(scores, id, 0.0f);
  }

 private:
  Tokens eos_;
};

/// From `start` new tokens on, raises the eos by |score|·(factor^(tokens since then) - 1).
class ExponentialDecay : public Processor {
 public:
  ExponentialDecay(int start, float factor, Tokens eos)
      : start_(start), factor_(factor), eos_(std::move(eos)) {}
  void apply(const Row& row, std::span<float> scores) const override {
    const int since = row.new_tokens() - start_;
    if (since <= 0) return;
    const float growth = static_cast<float>(std::pow(static_cast<double>(factor_), since) - 1.0);
    for (const std::int32_t id : eos_) {
      if (id < 0 || static_cast<std::size_t>(id) >= scores.size()) continue;
      float& score = scores[static_cast<std::size_t>(id)];
      if (score != kNever) score += std::fabs(score) * growth;  // -inf + inf would be NaN
    }
  }

 private:
  int start_;
  float factor_;
  Tokens eos_;
};

class Suppress : public Processor {
 public:
  enum class When { always, first_new_token };
  Suppress(Tokens tokens, When when) : tokens_(std::move(tokens)), when_(when) {}
  void apply(const Row& row, std::span<float> scores) const override {
    if (when_ == When::first_new_token && row.new_tokens() != 0) return;
    for (const std::int32_t id : tokens_) set(scores, id, kNever);
  }

 private:
  Tokens tokens_;
  When when_;
};

/// kernels/ops.h's RepetitionPenalty, for one row.
class Repetition : public Processor {
 public:
  explicit Repetition(float penalty) : penalty_(penalty) {}
  void apply(const Row& row, std::span<float> scores) const override {
    for (const std::int32_t id : std::set<std::int32_t>(row.ids.begin(), row.ids.end())) {
      float& score = scores[static_cast<std::size_t>(id)];
      score = score < 0 ? score * penalty_ : score / penalty_;
    }
  }
  float repetition_penalty() const override { return penalty_; }

 private:
  float penalty_;
};

template <class T, class... Arguments>
void add(Processors& list, Arguments&&... arguments) {
  list.push_back(std::make_unique<T>(std::forward<Arguments>(arguments)...));
}

}  // namespace

Processors make_processors(const GenerationConfig& config) {
  Processors list;
  const Tokens& eos = config.eos_token_ids;
  if (!config.sequence_bias.empty()) add<SequenceBias>(list, config.sequence_bias);
  if (config.repetition_penalty != 1.0f) add<Repetition>(list, config.repetition_penalty);
  if (config.no_repeat_ngram_size > 0) add<NoRepeatNgram>(list, config.no_repeat_ngram_size);
  // A bad word is a sequence with a bias of -infinity; one that is just [eos] is ignored.
  std::vector<std::pair<Tokens, float>> bad_words;
  for (const Tokens& word : config.bad_words_ids) {
    const bool is_eos = word.size() == 1 && std::count(eos.begin(), eos.end(), word[0]) > 0;
    if (!is_eos) bad_words.emplace_back(word, kNever);
  }
  if (!bad_words.empty()) add<SequenceBias>(list, std::move(bad_words));
  if (!eos.empty()) {
    // min_new_tokens takes min_length's place, even as 0:
    // transformers' _prepare_generated_length().
    if (config.min_new_tokens >= 0) {
      add<MinimumLength>(list, config.min_new_tokens, MinimumLength::Counting::new_tokens, eos);
    } else if (config.min_length > 0) {
      add<MinimumLength>(list, config.min_length, MinimumLength::Counting::all_tokens, eos);
    }
  }
  if (!config.forced_eos_token_id.empty()) add<ForcedEos>(list, config.forced_eos_token_id);
  if (config.exponential_decay_length_penalty && !eos.empty()) {
    const auto [start, factor] = *config.exponential_decay_length_penalty;
    add<ExponentialDecay>(list, start, factor, eos);
  }
  if (!config.suppress_tokens.empty()) {
    add<Suppress>(list, config.suppress_tokens, Suppress::When::always);
  }
  if (!config.begin_suppress_tokens.empty()) {
    add<Suppress>(list, config.begin_suppress_tokens, Suppress::When::first_new_token);
  }
  return list;
}

}  // namespace quire

// Texts that are written side by side: prompts, rows of a batch, beam searches, requests of a
// server. Each has rows of the cache with pasts of their own, one or as many as it has beams, its
// own options and its own random numbers, and comes and goes at any step.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "engine/generation/generator.h"
#include "engine/generation/sampler.h"
#include "engine/model/kv_cache.h"

namespace quire {

struct SessionSize {
  int rows = 1;            ///< at once: one of each text, num_beams of a search
  int longest_prompt = 0;  ///< tokens
  int longest_text = 0;    ///< tokens, prompt included: length_limit()
};

/// Whether a text with these ids, prompt included, ends there: a stop string.
using StopCallback = std::function<bool(std::span<const std::int32_t> ids)>;

/// A text that grows, alone or as one of a search, or a finished one.
struct Beam {
  std::vector<std::int32_t> ids;  // prompt and output
  GeneratedSequence text;  // its output_ids come last; its score is the sum so far, then by length
  int row = 0;             // of the cache
};

/// What is written from one prompt.
struct Draft {
  int number = 0;
  std::shared_ptr<const RowOptions> options;  // one for texts of equal options
  RandomKey key;
  StopCallback stops;
  int prompt_length = 0;
  int limit = 0;               // tokens, prompt included
  std::vector<int> rows;       // of the cache
  std::vector<Beam> beams;     // one, or the num_beams of a search
  std::vector<Beam> finished;  // best first
  bool is_over = false;

  bool is_search() const { return beams.size() > 1; }
  bool is_new() const { return std::ssize(beams[0].ids) == prompt_length; }
  /// Beams that the model reads: all of a new search are its prompt.
  std::span<const Beam> to_read() const { return {beams.data(), is_new() ? 1 : beams.size()}; }

  /// One more token for one of the beams; whether it ends with that.
  bool take(Beam& beam, SampledToken token) const;
  /// Keeps the best of those that ended, as many as there are beams.
  void finish(Beam beam);
  /// score / new tokens^length_penalty
  float per_length(float score, int new_tokens) const;
};

/// Where Device::rows_alone(), a text does not depend on who is written beside it.
class Session {
 public:
  Session(Device& device, const Gpt2Config& config, const Parameters& parameters,
          const SessionSize& size);

  int rows_in_use() const { return size_.rows - static_cast<int>(free_rows_.size()); }
  bool is_empty() const { return drafts_.empty(); }

  /// Begins a text, which draws number n of the stream `key` for its n-th new token, or with
  /// num_beams above 1 a search (beam_search.h). Returns its number: they count from 0. Throws
  /// Error(usage) as generate() does, and Error(internal) where there is no room for it.
  int add(const std::vector<std::int32_t>& prompt, const GenerationConfig& generation,
          RandomKey key, StopCallback stops = {});

  struct Ended {
    int text = 0;                              ///< its number
    std::vector<GeneratedSequence> sequences;  ///< one; of a search num_beams, best first
  };
  /// One more token for each text; those that have ended leave, and make room. Prompts that were
  /// added since the last step are read along with it, equal ones once. on_token is told the
  /// numbers of texts, and of no search. Where others go on, and stop_requested says so, they end
  /// as they are.
  std::vector<Ended> step(const TokenCallback& on_token = {},
                          const std::function<bool()>& stop_requested = {});

 private:
  static bool comes_before(const Draft& a, const Draft& b);
  void choose(View logits, std::span<const SamplerRow> rows, const TokenCallback& on_token);
  void part_rows(Draft& search);

  const Gpt2Config& config_;
  SessionSize size_;
  Gpt2Decoder decoder_;
  Sampler sampler_;
  std::vector<Draft> drafts_;  // in the order of the batch
  std::vector<int> free_rows_;
  int added_ = 0;
};

}  // namespace quire

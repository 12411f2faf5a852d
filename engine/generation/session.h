// Texts that are written side by side: prompts, rows of a batch, requests of a server. Each has a
// row of the cache with its own past, its own options and its own random numbers, and comes and
// goes at any step.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "engine/generation/generator.h"
#include "engine/generation/sampler.h"
#include "engine/model/kv_cache.h"

namespace quire {

struct SessionSize {
  int texts = 1;           ///< at once
  int longest_prompt = 0;  ///< tokens
  int longest_text = 0;    ///< tokens, prompt included: length_limit()
};

/// Where Device::rows_alone(), a text does not depend on who is written beside it.
class Session {
 public:
  Session(Device& device, const Gpt2Config& config, const Parameters& parameters,
          const SessionSize& size);

  bool is_full() const { return free_rows_.empty(); }
  bool is_empty() const { return texts_.empty(); }

  /// Begins a text, which draws number n of the stream `key` for its n-th new token. Returns its
  /// number: they count from 0. Throws Error(usage) as generate() does, and Error(internal) where
  /// there is no room for it.
  int add(const std::vector<std::int32_t>& prompt, const GenerationConfig& generation,
          RandomKey key);

  struct Ended {
    int text = 0;  ///< its number
    GeneratedSequence sequence;
  };
  /// One more token for each text; those that have ended leave, and make room. Prompts that were
  /// added since the last step are read along with it, equal ones once. on_token is told the
  /// numbers of texts.
  std::vector<Ended> step(const TokenCallback& on_token = {});

 private:
  struct Text {
    int number = 0;
    int row = 0;                                // of the cache
    std::shared_ptr<const RowOptions> options;  // one for texts of equal options
    RandomKey key;
    std::vector<std::int32_t> ids;  // prompt and output
    int prompt_length = 0;
    int limit = 0;
    GeneratedSequence result = {};

    bool is_new() const { return static_cast<int>(ids.size()) == prompt_length; }
  };
  static bool comes_before(const Text& a, const Text& b);
  /// Whether the text ends with that token.
  static bool take(Text& text, SampledToken token, const TokenCallback& on_token);

  const Gpt2Config& config_;
  SessionSize size_;
  Gpt2Decoder decoder_;
  Sampler sampler_;
  std::vector<Text> texts_;  // in the order of the batch
  std::vector<int> free_rows_;
  int added_ = 0;
};

}  // namespace quire

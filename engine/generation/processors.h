// Processors: what changes the scores of the next token before it is chosen, greedy or sampled.
//
// Each works on one row at a time in host memory and keeps no state: what it needs to know of a row
// is all in Row. The repetition penalty is also an op of the device (kernels/ops.h), because it is
// the one that is on in everyday use; sampler.cpp runs it between the first two lists below.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "engine/generation/config.h"

namespace quire {

/// A row as the processors see it.
struct Row {
  std::span<const std::int32_t> ids;  ///< prompt and output so far, no padding
  int prompt_length = 0;
  int max_length = 0;  ///< most tokens this row can have, prompt included

  int length() const { return static_cast<int>(ids.size()); }
  int new_tokens() const { return length() - prompt_length; }
};

class Processor {
 public:
  virtual ~Processor() = default;
  virtual void apply(const Row& row, std::span<float> scores) const = 0;  // [V], in place
};

using Processors = std::vector<std::unique_ptr<Processor>>;

/// Those that come before the repetition penalty in transformers' order: sequence_bias.
Processors processors_before_penalty(const GenerationConfig& config);

/// Those after it: no_repeat_ngram, bad_words, min_new_tokens or min_length, forced_eos,
/// exponential_decay_length_penalty, suppress_tokens, begin_suppress_tokens.
Processors processors_after_penalty(const GenerationConfig& config);

/// All of them, the repetition penalty in its place: for scores that are on the host anyway.
Processors processors_on_host(const GenerationConfig& config);

}  // namespace quire

// Processors: what changes the scores of the next token before it is chosen, greedy or sampled.
//
// Each works on one row at a time in host memory and keeps no state: what it needs to know of a row
// is all in Row. The repetition penalty is also an op of the device (kernels/ops.h), because it is
// the one that is on in everyday use: a list of it alone leaves the scores where they are.
#pragma once

#include <cstdint>
#include <functional>
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

struct Processor {
  std::function<void(const Row& row, std::span<float> scores)> apply;  ///< scores [V], in place
  /// What Device::repetition_penalty() does in its place; 1: it is another processor.
  float repetition_penalty = 1.0f;
};

using Processors = std::vector<Processor>;

/// Those that are on, in transformers' order: sequence_bias, repetition_penalty, no_repeat_ngram,
/// bad_words, min_new_tokens or min_length, forced_eos, exponential_decay_length_penalty,
/// suppress_tokens, begin_suppress_tokens.
Processors make_processors(const GenerationConfig& config);

}  // namespace quire

// Text generation over token ids: batches of prompts in, tokens out as they are drawn.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "engine/model/gpt2.h"

namespace quire {

/// Names, defaults and meanings are transformers' GenerationConfig.
struct GenerationConfig {
  int max_new_tokens = 20;
  int max_length = 0;  ///< prompt included; used when max_new_tokens is 0
  int min_new_tokens = 0;
  bool do_sample = false;
  float temperature = 1.0f;
  int top_k = 50;
  float top_p = 1.0f;
  float min_p = 0.0f;
  float repetition_penalty = 1.0f;
  std::vector<std::int32_t> eos_token_ids;  ///< empty: generation ends by length alone
  std::uint64_t seed = 42;
  void check() const;  ///< throws Error(usage) naming option and value
};

enum class FinishReason { length, eos, stop };

struct GeneratedSequence {
  std::vector<std::int32_t> output_ids;  ///< new tokens only, a final eos included
  FinishReason finish_reason = FinishReason::length;
  std::vector<float> logprobs;  ///< of each new token before warping, natural log
};

/// Called for each new token of each row in the order drawn; returns true to end that row (a stop
/// string, Ctrl-C). The token stays in the output.
using TokenCallback = std::function<bool(int row, std::int32_t token)>;

/// Generates for prompts of different lengths in one batch. Row r draws from the stream of
/// (seed, stream_ids[r]) alone, so a row's text does not depend on its neighbours. Prompts must not be
/// empty. A prompt longer than the context throws Error(usage) with both lengths.
std::vector<GeneratedSequence> generate(Device& device, const Gpt2Config& config,
                                        const Parameters& parameters,
                                        const std::vector<std::vector<std::int32_t>>& prompts,
                                        const GenerationConfig& generation,
                                        const std::vector<std::uint64_t>& stream_ids,
                                        const TokenCallback& on_token = {});

}  // namespace quire

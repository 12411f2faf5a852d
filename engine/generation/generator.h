// Text generation over token ids: batches of prompts in, tokens out as they are drawn.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "engine/generation/config.h"
#include "engine/model/gpt2.h"

namespace quire {

enum class FinishReason { length, eos, stop };
const char* name_of(FinishReason reason);  ///< "length", "eos", "stop"

struct GeneratedSequence {
  std::vector<std::int32_t> output_ids;  ///< new tokens only, a final eos included
  FinishReason finish_reason = FinishReason::length;
  std::vector<float> logprobs;  ///< of each new token before processors and warpers, natural log
  /// With GenerationConfig::top_logprobs: for each new token the best ids and their logprobs.
  std::vector<std::vector<std::pair<std::int32_t, float>>> top_logprobs;
  float score = 0.0f;  ///< of beam search alone: what its texts are ordered by
};

/// Called for each new token of each row in the order drawn; returns true to end that row (a stop
/// string, Ctrl-C). The token stays in the output.
using TokenCallback = std::function<bool(int row, std::int32_t token)>;

/// Generates for prompts of different lengths in one batch; with num_beams above 1 the best text of a
/// search for each, of which no token is told. Row r draws number n from the stream
/// (seed, stream_ids[r]) for its n-th new token and from nothing else, so a row's text does not
/// depend on its neighbours. Without stream_ids row r has stream r.
///
/// A row ends at an eos, when the callback says so, or by length: max_new_tokens or max_length, or
/// when prompt and output together fill the context of n_positions. (A prompt that fills it alone
/// gets the one token that its logits are for.)
///
/// Throws Error(usage) for an empty prompt, ids outside the vocabulary, a prompt longer than the
/// context, and a prompt that leaves no room below max_length: each with the row and both numbers.
std::vector<GeneratedSequence> generate(Device& device, const Gpt2Config& config,
                                        const Parameters& parameters,
                                        const std::vector<std::vector<std::int32_t>>& prompts,
                                        const GenerationConfig& generation,
                                        const std::vector<std::uint64_t>& stream_ids = {},
                                        const TokenCallback& on_token = {});

/// Most tokens a text can have, prompt included.
int length_limit(const Gpt2Config& config, const GenerationConfig& generation, int prompt_length);

/// The checks of generate() on one prompt, for callers that want them before work begins. `name`
/// stands for the prompt in the error: "the prompt", "prompt 3".
void check_prompt(const Gpt2Config& config, const GenerationConfig& generation,
                  const std::vector<std::int32_t>& prompt, const std::string& name);

}  // namespace quire

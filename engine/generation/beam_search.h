// Beam search: the num_beams likeliest continuations of a prompt grow side by side.
//
// The score of a beam is the sum of its tokens' log probabilities, each taken after the processors
// (which work on log probabilities here) and, when sampling, the warpers. In each step:
//   1. Of all beams and all tokens the k = max(2, 1 + number of eos ids)·num_beams best are the
//      candidates; when sampling, k are drawn without replacement from the softmax of the scores.
//   2. A candidate ends at an eos, where `stops` says so, or at the full length. Those among the
//      first num_beams that end are finished, with score / (new tokens)^length_penalty; the best
//      num_beams texts are kept.
//   3. The best num_beams candidates that do not end are the next beams.
// It is over when early_stopping says so (config.h), or when every candidate has ended. Ties go to
// the earlier beam, then to the lower token id.
//
// As in transformers' _beam_search (generation/utils.py), down to the sums in float.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "engine/generation/generator.h"

namespace quire {

struct BeamCallbacks {
  /// Whether a text with these new tokens ends there: a stop string.
  std::function<bool(std::span<const std::int32_t> output_ids)> stops;
  /// After each step, with the tokens that the beams have by then;
  /// returns true to end the search (Ctrl-C).
  std::function<bool(int new_tokens)> on_step;
};

/// The `count` best texts of one prompt, best first, `count` at most num_beams; GeneratedSequence::
/// score is what they are ordered by. A search that is interrupted returns its beams as they are
/// where too few texts are finished. Draws come from the stream `key`. Throws as generate() does.
std::vector<GeneratedSequence> beam_search(Device& device, const Gpt2Config& config,
                                           const Parameters& parameters,
                                           const std::vector<std::int32_t>& prompt,
                                           const GenerationConfig& generation, int count,
                                           RandomKey key, const BeamCallbacks& callbacks = {});

}  // namespace quire

// From the last logits of each row to its next token: processors → argmax, or → warpers → draw.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "engine/generation/config.h"
#include "engine/generation/processors.h"
#include "kernels/device.h"

namespace quire {

/// Options, and the processors that follow from them.
struct RowOptions {
  explicit RowOptions(GenerationConfig options)
      : config(std::move(options)), processors(make_processors(config)) {}

  GenerationConfig config;
  Processors processors;
};

/// A row of the batch at one step. Draw number n of a row is number n of the stream `key`.
struct SamplerRow {
  const RowOptions* options = nullptr;
  Row row;
  RandomKey key;
};

/// A chosen token and what the model itself thought of it: natural log probabilities of the logits
/// as they came, before any processor or warper.
struct SampledToken {
  std::int32_t id = 0;
  float logprob = 0.0f;
  std::vector<std::pair<std::int32_t, float>> top;  ///< config.top_logprobs best, best first
};

/// log p of every token of some rows, [B, V].
struct AllScores {
  std::vector<float> of_model;  ///< as the model has it
  std::vector<float> scores;    ///< after processors and warpers, which work on log p here
};

/// The k most probable tokens with their log probabilities, the lower id first on a tie.
std::vector<std::pair<std::int32_t, float>> best_logprobs(std::span<const float> logits, int k);

/// Neighbours in a batch that share their options go through an op together; a row's token is the
/// same in any company.
class Sampler {
 public:
  /// `max_batch` rows of at most `max_length` tokens.
  Sampler(Device& device, int max_batch, int max_length, int vocab_size);

  /// logits [B, V] f32 in device memory; they may be overwritten.
  std::vector<SampledToken> next(View logits, std::span<const SamplerRow> rows);

  /// For beams, which choose among all tokens of all rows. Valid until the next call; logits may be
  /// overwritten.
  const AllScores& score_all(View logits, std::span<const SamplerRow> rows);

 private:
  void process(View logits, std::span<const SamplerRow> rows, bool of_beams);
  void apply(const Processors& processors, View logits, std::span<const SamplerRow> rows);
  void penalize(float penalty, View logits, std::span<const SamplerRow> rows);
  /// [B] f32 in device memory: minus the log probability of each row's token.
  View losses_of(View tokens, ConstView logits);
  /// logits: the model's own.
  std::vector<SampledToken> read_results(View tokens, ConstView logits,
                                         std::span<const SamplerRow> rows);

  Device& device_;
  std::size_t max_batch_, max_length_, vocab_size_;
  Buffer results_;       // [B] i32 the chosen tokens; [B] f32 minus the log probability of each
  Buffer uniforms_;      // [B] f32; this and what follows is there once a row needs it
  Buffer model_logits_;  // [B, V] f32, as they came, where they are changed
  Buffer history_;       // [B, longest row] and [B] i32, for the repetition penalty
  AllScores all_;
  std::vector<float> host_logits_;          // [B, V] where the device's memory is not the host's
  std::vector<std::int32_t> host_history_;  // the same: rows right-aligned, then where each begins
};

}  // namespace quire

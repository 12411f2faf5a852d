// Texts that a model in training makes, always from the same prompts.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "engine/generation/config.h"
#include "engine/model/parameters.h"
#include "engine/training/progress.h"
#include "tokenizer/tokenizer.h"

namespace quire {

/// Each prompt draws from the same random numbers every time: what changes from sample to sample is
/// the model. Refers to device, config and tokenizer.
class TrainSamples {
 public:
  /// Without prompts, or for an empty one, a text begins with the end-of-text token. Throws
  /// Error(usage) for a prompt longer than the context.
  TrainSamples(Device& device, const Gpt2Config& config, const Tokenizer& tokenizer,
               std::vector<std::string> prompts, std::uint64_t seed);

  /// None where it was asked to stop before they were whole.
  std::vector<TextSample> make(const Parameters& parameters,
                               const std::function<bool()>& stop_requested) const;

 private:
  Device& device_;
  const Gpt2Config& config_;
  const Tokenizer& tokenizer_;
  std::vector<std::string> prompts_;
  std::vector<std::vector<std::int32_t>> ids_;  // of the prompts
  std::vector<std::uint64_t> streams_;          // 0, 1, 2 …
  GenerationConfig options_;
};

}  // namespace quire

// Perplexity of texts under a model, with progress and Ctrl-C.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "cli/device_flags.h"
#include "corpus/records.h"
#include "engine/evaluation/perplexity.h"
#include "pipeline/get_model.h"
#include "tokenizer/tokenizer.h"
#include "tokens/view.h"

namespace quire {

/// Which model scores, and how.
struct ScoringOptions {
  std::string model = kBundledModel;
  std::string tokenizer;  ///< empty: the model's own
  std::string dtype = "auto";
  DeviceFlags device;
  bool prepend_endoftext = false;
  std::string label;  ///< what lines begin with where two models are scored; empty: nothing
  PerplexityOptions perplexity;
};

struct Scored {
  PerplexityResult result;
  PerplexityOptions windows;  ///< resolved
  std::int64_t tokens = 0;
  std::size_t bytes = 0;
  double seconds = 0;
  double bits_per_byte() const;
};

/// Scores every record for itself. Nothing when it was interrupted, which is noted. Throws Error:
/// usage (labels, an option), bad_data (the model, ids it does not have, nothing to score),
/// no_space, device.
std::optional<Scored> score(const ScoringOptions& options, const std::vector<Record>& records);
/// The same of records as they are trained on, of which those tokens count that have a label: their
/// bytes alone, too, without those of the end of text. Throws Error(usage) where the model has another
/// tokenizer than theirs.
std::optional<Scored> score(const ScoringOptions& options, const TokenView& records,
                            const Tokenizer& tokenizer);

}  // namespace quire

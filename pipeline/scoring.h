// Perplexity of texts under a model.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "corpus/records.h"
#include "engine/evaluation/perplexity.h"
#include "engine/formats/hub_folder.h"
#include "kernels/device.h"
#include "pipeline/get_model.h"
#include "tokenizer/tokenizer.h"
#include "tokens/view.h"

namespace quire {

/// Which model scores, and how.
struct ScoringOptions {
  std::string model = kBundledModel;
  std::string tokenizer;  ///< empty: the model's own
  WeightStorage storage = WeightStorage::as_stored;
  bool prepend_endoftext = false;
  PerplexityOptions perplexity;
};

struct ScoringCallbacks {
  std::function<std::unique_ptr<Device>()> open_device;  ///< when the data are found sound
  std::function<void(const std::string&)> note;
  std::function<void()> on_begin;  ///< the model is there
  std::function<bool()> stop_requested;
};

struct Scored {
  PerplexityResult result;
  PerplexityOptions windows;  ///< resolved
  std::int64_t tokens = 0;
  std::int64_t to_score = 0;
  std::size_t bytes = 0;
  double seconds = 0;
  bool stopped = false;  ///< before all were scored
  double bits_per_byte() const;
};
using OnScored = std::function<void(const Scored& so_far)>;

/// Scores every record for itself. Throws Error: usage (labels, an option), bad_data (the model, ids
/// it does not have, nothing to score), no_space, device.
Scored score(const ScoringOptions& options, const std::vector<Record>& records,
             const ScoringCallbacks& callbacks, const OnScored& on_progress);
/// The same of records as they are trained on, of which those tokens count that have a label: their
/// bytes alone, too, without those of the end of text. Throws Error(usage) where the model has another
/// tokenizer than theirs.
Scored score(const ScoringOptions& options, const TokenView& records, const Tokenizer& tokenizer,
             const ScoringCallbacks& callbacks, const OnScored& on_progress);

}  // namespace quire

// How often a model completes a record as the data has it: the last field of a template, from what
// comes before it.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "corpus/records.h"
#include "pipeline/scoring.h"

namespace quire {

struct CompletionScores {
  std::int64_t records = 0;
  std::int64_t best = 0;   ///< records whose likeliest completion is theirs
  std::int64_t among = 0;  ///< records whose completion is among the `top` likeliest
  bool stopped = false;    ///< before all were searched
};

using OnCompletion = std::function<void(const CompletionScores& so_far)>;

/// Searches the `top` likeliest completions of each record's prompt (beam search of that width,
/// without a penalty for length, up to the end of text) and compares them, white space at both ends
/// aside, with the record's own. `records` are those of CorpusOptions::loss_on_completion.
CompletionScores score_completions(const ScoringOptions& options,
                                   const std::vector<Record>& records, int top,
                                   const ScoringCallbacks& callbacks,
                                   const OnCompletion& on_progress);

}  // namespace quire

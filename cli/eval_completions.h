// How often a model completes a record as the data has it: the last field of a template, from what
// comes before it.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "cli/eval_perplexity.h"
#include "corpus/records.h"

namespace quire {

struct CompletionScores {
  std::int64_t records = 0;
  std::int64_t best = 0;   ///< records whose likeliest completion is theirs
  std::int64_t among = 0;  ///< records whose completion is among the `top` likeliest
};

/// Searches the `top` likeliest completions of each record's prompt (beam search of that width,
/// without a penalty for length, up to the end of text) and compares them, white space at both ends
/// aside, with the record's own. `records` are those of CorpusOptions::loss_on_completion. Nothing
/// when it was interrupted, which is noted.
std::optional<CompletionScores> score_completions(const ScoringOptions& options,
                                                  const std::vector<Record>& records, int top);

}  // namespace quire

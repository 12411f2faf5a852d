// Scoring with options of the command line, progress and Ctrl-C.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "cli/device_flags.h"
#include "pipeline/completions.h"
#include "pipeline/scoring.h"

namespace quire {

struct ScoringFlags : ScoringOptions {
  DeviceFlags device;
  std::string label;  ///< what lines begin with; "NAME: " where two models are scored
};

/// A call of score() with what it is to be told.
using Score = std::function<Scored(const ScoringCallbacks&, const OnScored&)>;

/// Nothing when it was interrupted, which is noted; so is how long it took.
std::optional<Scored> watch_scoring(const ScoringFlags& options, const Score& score);
std::optional<CompletionScores> watch_completions(const ScoringFlags& options,
                                                  const std::vector<Record>& records, int top);

}  // namespace quire

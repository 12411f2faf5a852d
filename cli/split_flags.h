// --split and --run, for every command that works on a part of a run's data.
#pragma once

#include <string>
#include <vector>

#include "cli/flags.h"
#include "pipeline/trained_run.h"

namespace quire {

struct SplitFlags {
  std::string split = "none";  ///< "validation", "train", or "none": not asked for
  std::string run;             ///< empty: that of --model

  void add_to(Flags& flags, const std::string& help);
  bool asked() const { return split != "none"; }
  /// The part that is asked for, of `data` instead of the paths that the run names where there are any.
  /// Throws Error(usage) for what is no run's folder, and what TrainedRun does.
  TrainedRun read(const std::string& model, const std::vector<std::string>& data) const;
};

}  // namespace quire

// The logs that a training run has beside the trainer's own.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "engine/training/run_log.h"

namespace quire {

struct RunReports {
  bool tensorboard = false, html = false;

  /// Of a run with these options, a JSON object, of which `set_options` are those that somebody chose.
  /// Throws Error(usage) for one that this build does not have.
  std::vector<std::shared_ptr<RunLog>> make(const std::string& options,
                                            const std::string& set_options) const;
};

}  // namespace quire

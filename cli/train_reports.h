// The logs that `quire train` keeps beside those of the trainer itself.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "cli/train_flags.h"
#include "engine/training/run_log.h"

namespace quire {

/// Those of --report-to; `flags` were parsed, `saved_options` is the content of quire_config.json.
std::vector<std::shared_ptr<RunLog>> train_reports(const TrainFlags& options, const Flags& flags,
                                                   const std::string& saved_options);

}  // namespace quire

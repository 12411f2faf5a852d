// What `quire train` leaves beside the model: logs other than the trainer's own, and a card.
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

/// The README.md of what these options train.
std::string card_of(const TrainOptions& options, const Gpt2Config& config);

}  // namespace quire

// What identifies a run: the facts that a continuation must share, and those that it may change.
#pragma once

#include "engine/training/checkpoint.h"
#include "engine/training/training_config.h"

namespace quire {

/// Data (by a hash of every id and label), model, batch shape and seed: with any of these changed,
/// a continuation would not be one. `config.block_size` is resolved already.
Fingerprint fixed_facts(const Gpt2Config& model, const TrainingConfig& config,
                        const TokenView& records, const TokenView& validation);

/// Length of the run and settings of schedule and optimizer.
Fingerprint option_facts(const TrainingConfig& config);

}  // namespace quire

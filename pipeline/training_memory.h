// What to change when the memory plan of a training run does not fit.
#pragma once

#include "engine/training/trainer.h"
#include "pipeline/memory_plan.h"
#include "tokens/batches.h"

namespace quire {

/// What the run will hold in memory: rows as long as the longest one there is, which may be far
/// shorter than the context.
TrainingConfig as_planned(TrainingConfig config, const Rows& rows, const Rows& validation);

/// Throws Error(no_space) when the plan needs more than there is room for. Its next step is the
/// options that fit with the same result: smaller micro-batches and more accumulation, the rows of
/// a step unchanged, then gradient checkpointing; or, where not even one row
/// fits, a shorter --block-size.
void check_memory(const Gpt2Config& model, const TrainingConfig& config, const Device& device,
                  const MemoryRoom& room);

}  // namespace quire

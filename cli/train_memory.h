// The memory plan: what a training run will hold at once, and what to change when it does not fit.
#pragma once

#include <cstdint>
#include <string>

#include "engine/training/trainer.h"

namespace quire {

/// The plan as a table for people, with its sum and what is available.
std::string format_memory_plan(const std::vector<MemoryItem>& plan, std::int64_t available);

/// Throws Error(no_space) when the plan needs more than `available` bytes. Its next step is the
/// options that fit with the same result: smaller micro-batches and more accumulation, the rows of
/// a step unchanged; or, where not even one row fits, a shorter --block-size.
void check_memory(const Gpt2Config& model, const TrainingConfig& config, std::int64_t available);

}  // namespace quire

#include "pipeline/training_memory.h"

#include <fmt/format.h>

#include "base/error.h"

namespace quire {
namespace {

bool fits(const Gpt2Config& model, const TrainingConfig& config, const Device& device,
          std::int64_t available) {
  return bytes_of(training_memory_plan(model, config, device)) <= available;
}

std::string options_that_fit(const Gpt2Config& model, const TrainingConfig& config,
                             const Device& device, std::int64_t available) {
  const int rows = config.per_device_train_batch_size * config.gradient_accumulation_steps;
  TrainingConfig smaller = config;
  // What costs no time first: smaller batches, then activations that are computed again.
  for (const bool again : {false, true}) {
    if (again && config.gradient_checkpointing) break;
    smaller.gradient_checkpointing = again || config.gradient_checkpointing;
    for (int batch = config.per_device_train_batch_size - (again ? 0 : 1); batch >= 1; --batch) {
      if (rows % batch != 0) continue;
      smaller.per_device_train_batch_size = batch;
      smaller.gradient_accumulation_steps = rows / batch;
      if (fits(model, smaller, device, available)) {
        return fmt::format(
            fmt::runtime("`per_device_train_batch_size` {} "_named
                         "`gradient_accumulation_steps` {}{} (the same {} rows "_named
                         "a step)"_named),
            batch, rows / batch, again ? " `gradient_checkpointing`"_named : "", rows);
      }
    }
  }
  smaller.per_device_train_batch_size = 1;
  smaller.gradient_accumulation_steps = rows;
  const int longest = config.block_size > 0 ? config.block_size : model.n_positions;
  for (smaller.block_size = longest / 2; smaller.block_size >= 16; smaller.block_size /= 2) {
    if (fits(model, smaller, device, available)) {
      return fmt::format(
          fmt::runtime(
              "`per_device_train_batch_size` 1 `gradient_accumulation_steps` {} "_named
              "`gradient_checkpointing` `block_size` {} (shorter rows: not the same result)"_named),
          rows, smaller.block_size);
    }
  }
  return "a smaller model: quire doctor shows which fit";
}

}  // namespace

TrainingConfig as_planned(TrainingConfig config, const Rows& rows, const Rows& validation) {
  const int longest = std::max(rows.longest(), validation.longest());
  if (longest > 0) config.block_size = std::min(config.block_size, longest);
  return config;
}

void check_memory(const Gpt2Config& model, const TrainingConfig& config, const Device& device,
                  const MemoryRoom& room) {
  if (fits(model, config, device, room.available)) return;
  throw_no_room("training", training_memory_plan(model, config, device), room,
                options_that_fit(model, config, device, room.available));
}

}  // namespace quire

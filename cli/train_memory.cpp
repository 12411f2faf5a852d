#include "cli/train_memory.h"

#include <fmt/format.h>

#include "cli/terminal.h"

namespace quire {
namespace {

std::int64_t bytes_of(const std::vector<MemoryItem>& plan) {
  std::int64_t sum = 0;
  for (const MemoryItem& item : plan) sum += static_cast<std::int64_t>(item.bytes);
  return sum;
}

bool fits(const Gpt2Config& model, const TrainingConfig& config, std::int64_t available) {
  return bytes_of(training_memory_plan(model, config)) <= available;
}

std::string options_that_fit(const Gpt2Config& model, const TrainingConfig& config,
                             std::int64_t available) {
  const int rows = config.per_device_train_batch_size * config.gradient_accumulation_steps;
  TrainingConfig smaller = config;
  for (int batch = config.per_device_train_batch_size - 1; batch >= 1; --batch) {
    if (rows % batch != 0) continue;
    smaller.per_device_train_batch_size = batch;
    smaller.gradient_accumulation_steps = rows / batch;
    if (fits(model, smaller, available)) {
      return fmt::format(
          "--per-device-train-batch-size {} --gradient-accumulation-steps {} (the same {} rows a "
          "step)",
          batch, rows / batch, rows);
    }
  }
  smaller.per_device_train_batch_size = 1;
  smaller.gradient_accumulation_steps = rows;
  const int longest = config.block_size > 0 ? config.block_size : model.n_positions;
  for (smaller.block_size = longest / 2; smaller.block_size >= 16; smaller.block_size /= 2) {
    if (fits(model, smaller, available)) {
      return fmt::format(
          "--per-device-train-batch-size 1 --gradient-accumulation-steps {} --block-size {} "
          "(shorter rows: not the same result)",
          rows, smaller.block_size);
    }
  }
  return "a smaller model: quire doctor shows which fit";
}

}  // namespace

std::string format_memory_plan(const std::vector<MemoryItem>& plan, std::int64_t available) {
  std::vector<std::vector<std::string>> table = {{"memory", "bytes"}};
  std::int64_t rest = 0;  // parts below a fiftieth of the whole say nothing one by one
  for (const MemoryItem& item : plan) {
    if (static_cast<std::int64_t>(item.bytes) < bytes_of(plan) / 50) {
      rest += static_cast<std::int64_t>(item.bytes);
    } else {
      table.push_back({item.name, human_bytes(static_cast<double>(item.bytes))});
    }
  }
  if (rest > 0) table.push_back({"all else", human_bytes(static_cast<double>(rest))});
  table.push_back({"in all", human_bytes(static_cast<double>(bytes_of(plan)))});
  table.push_back({"available", human_bytes(static_cast<double>(available))});
  return format_table(table);
}

void check_memory(const Gpt2Config& model, const TrainingConfig& config, std::int64_t available) {
  const std::vector<MemoryItem> plan = training_memory_plan(model, config);
  if (bytes_of(plan) <= available) return;
  throw Error(Fault::no_space,
              fmt::format("training needs {} of memory, {} are available",
                          human_bytes(static_cast<double>(bytes_of(plan))),
                          human_bytes(static_cast<double>(available))),
              {fmt::format("the largest parts: {} {}, {} {}", plan[0].name,
                           human_bytes(static_cast<double>(plan[0].bytes)), plan[1].name,
                           human_bytes(static_cast<double>(plan[1].bytes)))},
              options_that_fit(model, config, available));
}

}  // namespace quire

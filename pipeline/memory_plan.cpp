#include "pipeline/memory_plan.h"

#include <fmt/format.h>

#include "base/error.h"
#include "base/machine.h"
#include "base/numbers.h"

namespace quire {
namespace {

std::string human(std::int64_t bytes) {
  return human_bytes(static_cast<double>(bytes));
}

}  // namespace

MemoryRoom memory_room(const Device& device) {
  const std::optional<DeviceMemory> memory = device.memory();
  if (!memory) {
    const Machine machine = inspect_machine();
    return {.available = machine.memory_available,
            .source = fmt::format("this machine has {} of memory", human(machine.memory_total))};
  }
  const auto free = static_cast<std::int64_t>(memory->free);
  return {.available = free - free / 32,
          .source = fmt::format("{}: {} of memory, {} of them free", device.description(),
                                human(static_cast<std::int64_t>(memory->total)), human(free))};
}

void throw_no_room(const std::string& doing, std::vector<MemoryItem> plan, const MemoryRoom& room,
                   const std::string& next) {
  sort_by_size(plan);
  std::string parts;
  for (std::size_t i = 0; i < plan.size() && i < 3; ++i) {
    parts += fmt::format("{}{} {}", i == 0 ? "" : ", ", plan[i].name,
                         human_bytes(static_cast<double>(plan[i].bytes)));
  }
  std::vector<std::string> details = {"the largest parts: " + parts};
  if (!room.source.empty()) details.push_back(room.source);
  throw Error(Fault::no_space,
              fmt::format("{} needs {} of memory, {} are available", doing, human(bytes_of(plan)),
                          human(room.available)),
              std::move(details), next);
}

}  // namespace quire

#include "base/machine.h"

#include <algorithm>
#include <cstdlib>
#include <fstream>

#include "base/parallel.h"

namespace quire {
namespace {

// What follows "NAME:" in a file of such lines ("/proc/meminfo").
std::string field(const char* file, const std::string& name) {
  std::ifstream lines(file);
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with(name)) continue;
    const std::size_t colon = line.find(':');
    const std::size_t value = line.find_first_not_of(" \t", colon + 1);
    return value == std::string::npos ? "" : line.substr(value);
  }
  return "";
}

std::int64_t kilobytes(const std::string& name) {
  return std::atoll(field("/proc/meminfo", name).c_str()) * 1024;
}

// The first number of a file, or -1 (no such file, or the word "max").
std::int64_t number_in(const std::string& file) {
  std::ifstream in(file);
  std::int64_t value = -1;
  return in >> value ? value : -1;
}

struct Memory {
  std::int64_t total, available;
};

/// The machine's, or the container's where that has less.
Memory inspect_memory() {
  Memory memory = {kilobytes("MemTotal"), kilobytes("MemAvailable")};
  const std::int64_t limit = number_in("/sys/fs/cgroup/memory.max");
  if (limit > 0 && limit < memory.total) {
    const std::int64_t used = std::max<std::int64_t>(number_in("/sys/fs/cgroup/memory.current"), 0);
    memory = {limit, std::min(memory.available, limit - used)};
  }
  return memory;
}

}  // namespace

std::int64_t available_memory() {
  return inspect_memory().available;
}

Machine inspect_machine() {
  Machine machine;
  machine.processor = field("/proc/cpuinfo", "model name");
  if (machine.processor.empty()) machine.processor = "unknown processor";
  machine.cores = available_threads();
  const Memory memory = inspect_memory();
  machine.memory_total = memory.total;
  machine.memory_available = memory.available;
  machine.nvidia_driver = field("/proc/driver/nvidia/version", "NVRM version");
  return machine;
}

}  // namespace quire

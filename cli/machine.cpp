#include "cli/machine.h"

#include <sched.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <fstream>
#include <sstream>
#include <thread>
#include <vector>

namespace quire {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

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

int usable_cores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  int cores = static_cast<int>(std::thread::hardware_concurrency());
  if (::sched_getaffinity(0, sizeof set, &set) == 0) cores = CPU_COUNT(&set);
  // A container's share of processor time: "quota period" in microseconds, "max" for all of it.
  std::ifstream limit("/sys/fs/cgroup/cpu.max");
  double quota = 0, period = 0;
  if (limit >> quota >> period && period > 0) {
    cores = std::min(cores, std::max(1, static_cast<int>(std::ceil(quota / period))));
  }
  return std::max(cores, 1);
}

}  // namespace

Machine inspect_machine() {
  Machine machine;
  machine.processor = field("/proc/cpuinfo", "model name");
  if (machine.processor.empty()) machine.processor = "unknown processor";
  machine.cores = usable_cores();
  machine.memory_total = kilobytes("MemTotal");
  machine.memory_available = kilobytes("MemAvailable");
  const std::int64_t limit = number_in("/sys/fs/cgroup/memory.max");
  if (limit > 0 && limit < machine.memory_total) {
    const std::int64_t used = std::max<std::int64_t>(number_in("/sys/fs/cgroup/memory.current"), 0);
    machine.memory_total = limit;
    machine.memory_available = std::min(machine.memory_available, limit - used);
  }
  machine.nvidia_driver = field("/proc/driver/nvidia/version", "NVRM version");
  return machine;
}

double measure_matmul(Device& device) {
  constexpr std::int64_t kM = 256, kK = 768, kN = 3072;
  std::vector<float> values(static_cast<std::size_t>(kK * kN));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i % 251) * 0x1p-8f;
  const Buffer x(device, kM * kK * sizeof(float)), weight(device, kK * kN * sizeof(float)),
      out(device, kM * kN * sizeof(float));
  device.copy_to_device(x.data(), values.data(), x.size());
  device.copy_to_device(weight.data(), values.data(), weight.size());
  double best = 0;
  const Clock::time_point begin = Clock::now();
  for (int pass = 0; pass < 3 || (pass < 20 && seconds_since(begin) < 0.4); ++pass) {
    const Clock::time_point start = Clock::now();
    device.matmul_forward(
        {.out = View(static_cast<float*>(out.data()), {kM, kN}),
         .x = ConstView(static_cast<const float*>(x.data()), {kM, kK}),
         .weight = ConstView(static_cast<const float*>(weight.data()), {kK, kN})});
    device.synchronize();
    best = std::max(best, 2.0 * kM * kK * kN / seconds_since(start));
  }
  return best;
}

}  // namespace quire

// What this machine has.
#pragma once

#include <cstdint>
#include <string>

namespace quire {

struct Machine {
  std::string processor;              ///< "AMD EPYC 7R13 Processor"
  int cores = 1;                      ///< that this process may use (affinity and container quota)
  std::int64_t memory_total = 0;      ///< bytes, the container's limit where that is lower
  std::int64_t memory_available = 0;  ///< bytes that can be had without swapping
  std::string nvidia_driver;          ///< version line of a loaded NVIDIA driver, or empty
};

Machine inspect_machine();

/// Machine::memory_available alone: on a large machine to describe its processors takes longer.
std::int64_t available_memory();

}  // namespace quire

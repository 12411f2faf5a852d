// --device, --threads and --autotune, for commands that compute.
#pragma once

#include <memory>
#include <string>

#include "cli/flags.h"
#include "kernels/device.h"

namespace quire {

enum class WeightStorage;

/// --dtype, for commands that read a model and do not train it.
void add_storage(Flags& flags, WeightStorage& storage);

struct DeviceFlags {
  std::string device = "auto";
  int threads = 0;
  bool autotune = false;
  bool on_trial = false;  ///< no option: for what verifies the device

  void add_to(Flags& flags);
  /// Of several processes on a machine each takes the card of its number,
  /// or its share of the cores.
  std::unique_ptr<Device> open(int local_rank = 0, int local_size = 1) const;
};

}  // namespace quire

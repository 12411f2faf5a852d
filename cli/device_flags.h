// --device and --threads, for commands that compute.
#pragma once

#include <memory>
#include <string>

#include "cli/flags.h"
#include "kernels/ops.h"

namespace quire {

struct DeviceFlags {
  std::string device = "auto";
  int threads = 0;

  void add_to(Flags& flags);
  /// Of several processes on a machine each takes the card of its number, or its share of the
  /// cores.
  std::unique_ptr<Device> open(int local_rank = 0, int local_size = 1) const;
};

}  // namespace quire

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
  std::unique_ptr<Device> open() const;
};

}  // namespace quire

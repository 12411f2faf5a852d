// Opening a device by name.
#pragma once

#include <memory>
#include <string_view>

#include "kernels/ops.h"

namespace quire {

struct DeviceOptions {
  int threads = 0;  ///< CPU threads, 0 = one per core this process may use
};

/// `name` is "auto" or "cpu". Throws Error(device) for a device that is not there and Error(usage)
/// for a name that is none.
std::unique_ptr<Device> open_device(std::string_view name, const DeviceOptions& options = {});

}  // namespace quire

// The CUDA backend.
#pragma once

#include <memory>
#include <string>

#include "kernels/device.h"

namespace quire {
namespace cuda {

/// Why card `index` cannot be used, as the end of a sentence; empty where it can.
std::string why_unusable(int index);

}  // namespace cuda

/// Card `index`. Throws Error(device) saying why where it cannot be used.
std::unique_ptr<Device> open_cuda_device(int index, const DeviceOptions& options = {});

}  // namespace quire

// Opening a device by name.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "kernels/device.h"

namespace quire {

/// `name` is "cpu", "cuda", "cuda:1" (the second card), or "auto": the first card where there is
/// one that can be used, else the CPU. Throws Error(device) for a device that is not there, saying
/// why, and Error(usage) for a name that is none.
std::unique_ptr<Device> open_device(std::string_view name, const DeviceOptions& options = {});

/// Why CUDA is not used here, as the end of a sentence ("no NVIDIA driver is loaded"); empty where
/// it can be.
std::string why_no_cuda();
/// Whether this build has kernels for CUDA.
bool built_with_cuda();

}  // namespace quire

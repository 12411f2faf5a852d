// Opening a device by name.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "kernels/ops.h"

namespace quire {

struct DeviceOptions {
  int threads = 0;  ///< CPU threads, 0 = one per core this process may use
  /// To be verified: kernels run that wait for it (Device::why_unproven()).
  bool on_trial = false;
  /// Times the algorithms for products where there is a choice, and keeps what it finds for later
  /// processes (Device::tuned()).
  bool autotune = false;
  /// Is given what a person should know about what is kept, at any time;
  /// a line without a full stop.
  std::function<void(const std::string&)> warn = [](const std::string&) {};
};

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

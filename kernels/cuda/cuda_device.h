// The CUDA backend.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "kernels/ops.h"

namespace quire {
namespace cuda {

/// Why card `index` cannot be used, as the end of a sentence; empty where it can.
std::string why_unusable(int index);

}  // namespace cuda

struct CudaOptions {
  /// To be verified: kernels of one chip run though they have not passed (proof.h).
  bool on_trial = false;
  /// Times the algorithms for products that its table lacks (algorithm_table.h).
  bool autotune = false;
  /// Is given what a person should know about that, at any time; a line without a full stop.
  std::function<void(const std::string&)> warn = [](const std::string&) {};
};

/// Card `index`. Throws Error(device) saying why where it cannot be used.
std::unique_ptr<Device> open_cuda_device(int index, const CudaOptions& options = {});

}  // namespace quire

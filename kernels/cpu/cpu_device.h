// The fast CPU backend.
#pragma once

#include <memory>

#include "kernels/device.h"

namespace quire {

/// `threads` 0 means one per core that this process may use.
std::unique_ptr<Device> open_cpu_device(int threads);

}  // namespace quire

// The reference backend: plain loops, sums in double, no threads, no SIMD. Linked into tests only.
#pragma once

#include <memory>

#include "kernels/ops.h"

namespace quire {

std::unique_ptr<Device> open_reference_device();

}  // namespace quire

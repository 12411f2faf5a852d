// quire doctor --verify: whether a card computes what the CPU computes.
#pragma once

#include "kernels/device.h"

namespace quire {

/// Compares the device, opened on trial, with the CPU, prints a table (or one JSON object), and
/// keeps for later runs that all kernels may be used. Throws Error(check) naming what disagrees.
void verify_device(Device& device, bool as_json);

}  // namespace quire

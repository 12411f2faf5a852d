// Whether a device computes what the CPU computes: every op's small cases, and a small model from
// beginning to end. For `quire doctor --verify`, on a card that nobody has seen before.
//
// Both are given the same numbers, in the types that the device keeps them in. How far they may be
// apart is a formula for each case (bounds.h): what roundings can do to either at most.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "kernels/device.h"

namespace quire::verify {

struct Finding {
  std::string what;  ///< an op, or a part of the comparison of models
  int cases = 0;
  double worst = 0;   ///< the largest distance of all elements, in bounds: above 1 is wrong
  std::string where;  ///< of the worst: case, element, both values
  bool agrees() const { return worst <= 1.0; }
};

/// Compares `tested` with `trusted`, which keeps activations in float. `starts` is told what is
/// next. Throws what the device throws.
std::vector<Finding> compare_devices(Device& tested, Device& trusted,
                                     const std::function<void(const std::string&)>& starts);

}  // namespace quire::verify

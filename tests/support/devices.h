// The devices that the kernel tests run on.
#pragma once

#include <string>
#include <vector>

#include "kernels/ops.h"

namespace quire::test {

struct TestDevice {
  std::string name;
  Device& device;  // opened once, lives as long as the program
};

/// Every backend, by name, at its own default settings.
const std::vector<TestDevice>& devices_under_test();

/// The CPU backend with 1, 2 and 3 threads: the same bits are expected of all.
const std::vector<TestDevice>& cpu_with_threads();

}  // namespace quire::test

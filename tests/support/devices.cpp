#include "tests/support/devices.h"

#include "kernels/open_device.h"
#include "kernels/reference/reference_device.h"

namespace quire::test {

const std::vector<TestDevice>& devices_under_test() {
  static const std::unique_ptr<Device> reference = open_reference_device();
  static const std::unique_ptr<Device> cpu = open_device("cpu");
  static const std::vector<TestDevice> devices = {{"reference", *reference}, {"cpu", *cpu}};
  return devices;
}

const std::vector<TestDevice>& cpu_with_threads() {
  static const std::unique_ptr<Device> one = open_device("cpu", {.threads = 1});
  static const std::unique_ptr<Device> two = open_device("cpu", {.threads = 2});
  static const std::unique_ptr<Device> three = open_device("cpu", {.threads = 3});
  static const std::vector<TestDevice> devices = {
      {"cpu with 1 thread", *one}, {"cpu with 2 threads", *two}, {"cpu with 3 threads", *three}};
  return devices;
}

}  // namespace quire::test

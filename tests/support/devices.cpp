#include "tests/support/devices.h"

#include <cstdlib>

#include "kernels/cuda/cuda_device.h"
#include "kernels/open_device.h"
#include "kernels/reference/reference_device.h"
#ifndef QUIRE_TEST_ON_GPU
#include "tests/cuda_on_host/gemm_library.h"
#endif

namespace quire::test {

namespace {

/// ThreadSanitizer would take minutes for all of it: it has tests/cuda_on_host/races_test.cpp. The
/// levels of QUIRE_SIMD are the CPU's alone.
bool tests_cuda() {
#ifdef __SANITIZE_THREAD__
  return false;
#else
  return std::getenv("QUIRE_SIMD") == nullptr;
#endif
}

/// On a GPU the library decides whether it has epilogues.
std::unique_ptr<Device> open_plain_cuda() {
  if (!tests_cuda()) return nullptr;
#ifndef QUIRE_TEST_ON_GPU
  const cuda_on_host::WithoutEpilogues refused;
#endif
  return open_cuda_device(0);
}

const std::vector<DType> kCudaTypes = {DType::f32, DType::bf16, DType::f16};

}  // namespace

const std::vector<TestDevice>& devices_under_test() {
  static const std::unique_ptr<Device> reference = open_reference_device();
  static const std::unique_ptr<Device> cpu = open_device("cpu");
  static const std::unique_ptr<Device> cuda =
      tests_cuda() ? open_cuda_device(0, {.on_trial = true}) : nullptr;
  static const std::vector<TestDevice> devices = [] {
    std::vector<TestDevice> all = {{"reference", *reference}, {"cpu", *cpu}};
    if (cuda) all.push_back({kCudaDevice, *cuda, kCudaTypes});
    return all;
  }();
  return devices;
}

const std::vector<TestDevice>& devices_for_products() {
  static const std::unique_ptr<Device> plain = open_plain_cuda();
  static const std::vector<TestDevice> devices = [] {
    std::vector<TestDevice> all = devices_under_test();
    if (plain) all.push_back({kPlainCudaDevice, *plain, kCudaTypes});
    return all;
  }();
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

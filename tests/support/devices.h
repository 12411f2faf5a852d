// The devices that the kernel tests run on.
#pragma once

#include <string>
#include <vector>

#include "kernels/device.h"

namespace quire::test {

/// Where the CUDA kernels run: on a GPU, or on the CPU by tests/cuda_on_host.
#ifdef QUIRE_TEST_ON_GPU
inline constexpr const char* kCudaDevice = "cuda";
inline constexpr const char* kPlainCudaDevice = "cuda, kernels for all cards";
#else
inline constexpr const char* kCudaDevice = "cuda-on-host";
inline constexpr const char* kPlainCudaDevice =
    "cuda-on-host, kernels for all cards, without epilogues";
#endif

struct TestDevice {
  std::string name;
  Device& device;  // opened once, lives as long as the program
  /// The types it computes in: what its activations may be.
  std::vector<DType> types = {DType::f32};
};

/// Every backend, by name, at its own default settings; kernels of one chip are on trial.
const std::vector<TestDevice>& devices_under_test();

/// The same, and once more the CUDA kernels that serve all cards, on the host with a library that
/// has no epilogues: for the ops that multiply.
const std::vector<TestDevice>& devices_for_products();

/// The CPU backend with 1, 2 and 3 threads: the same bits are expected of all.
const std::vector<TestDevice>& cpu_with_threads();

}  // namespace quire::test

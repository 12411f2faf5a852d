// What is said where CUDA cannot be used.
#include "kernels/cuda/cuda_device.h"
#include "tests/cuda_on_host/runtime.h"
#include "tests/support/catch.h"
#include "tests/support/compare.h"

namespace quire::test {
namespace {

/// Why card `index` of a machine cannot be used.
std::string why_unusable(const cuda_on_host::Machine& machine, int index = 0) {
  cuda_on_host::machine() = machine;
  const std::string reason = cuda::why_unusable(index);
  if (reason.empty()) {
    CHECK_NOTHROW(open_cuda_device(index));
  } else {
    CHECK(error_of([&] { open_cuda_device(index); }) == "CUDA cannot be used: " + reason);
  }
  cuda_on_host::machine() = {};
  return reason;
}

TEST_CASE("a machine that cannot use CUDA says why in one line") {
  CHECK(why_unusable({}) == "");
  CHECK(why_unusable({.devices = 2}, 1) == "");
  CHECK(why_unusable({.driver_version = 0}) == "no NVIDIA driver is loaded");
  CHECK(why_unusable({.driver_version = 12040}) ==
        "the driver is for CUDA 12.4, this build needs 13.0");
  CHECK(why_unusable({.devices = 0}) == "CUDA says: no CUDA-capable device is detected");
  CHECK(why_unusable({.devices = 2}, 2) == "there is no card 2, the last one is 1");
  CHECK(why_unusable({.compute_major = 7, .compute_minor = 5})
            .ends_with("has compute capability 7.5, and the kernels need 8.0"));
  CHECK(why_unusable({.why_no_gemm_library = "cuBLASLt: libcublasLt.so.13: no such file"}) ==
        "cuBLASLt: libcublasLt.so.13: no such file");
}

TEST_CASE("a library is not asked for where there is no card to use it") {
  CHECK(why_unusable({.devices = 0, .why_no_gemm_library = "missing"}) ==
        "CUDA says: no CUDA-capable device is detected");
}

}  // namespace
}  // namespace quire::test

// What CudaDevice makes of CUDA's errors, on a machine that pretends them.
#include <memory>

#include "kernels/cuda/cuda_device.h"
#include "kernels/cuda/platform.cuh"
#include "tests/support/catch.h"
#include "tests/support/text.h"

namespace quire::test {
namespace {

using cuda_on_host::machine;

/// Puts the machine back as it was.
struct Pretence {
  const cuda_on_host::Machine before = machine();
  ~Pretence() { machine() = before; }
};

template <class Action>
std::string message_of(Fault fault, const Action& action) {
  try {
    action();
  } catch (const Error& error) {
    CHECK(error.fault() == fault);
    return error.message();
  }
  FAIL_CHECK("no error");
  return "";
}

/// Device memory in use before the device under test is opened: other tests keep theirs.
std::size_t in_use() {
  std::size_t free = 0, total = 0;
  cudaMemGetInfo(&free, &total);
  return total - free;
}

void nothing(int) {}

TEST_CASE("a card that has no memory left says how much was asked for, and how much is free") {
  const Pretence pretence;
  const std::unique_ptr<Device> device = open_cuda_device(0);
  machine().memory = in_use() + 10'000;
  CHECK(device->memory()->free == 10'000);
  CHECK(device->memory()->total == machine().memory);
  const Buffer held(*device, 4'000);
  CHECK(device->memory()->free == 6'000);
  const std::string message = message_of(Fault::no_space, [&] { device->allocate(6'001); });
  INFO(message);
  CHECK(contains(message, "error: 6001 bytes of device memory: cudaMalloc("));
  CHECK(contains(message, ") failed: out of memory (cudaErrorMemoryAllocation)\n"));
  CHECK(contains(message, " bytes, 6000 of them free\n"));
  // It was told once: the next launch is not to blame.
  const Buffer x(*device, 4'000);
  const View view(x.data(), DType::f32, {1'000});
  device->activation_forward({.out = view, .x = view});
  device->synchronize();
}

TEST_CASE("an op that finds no scratch memory is named with its extents") {
  const Pretence pretence;
  const std::unique_ptr<Device> device = open_cuda_device(0);
  const Buffer x(*device, 64 * 64 * 4), d_weight(*device, 64 * 64 * 4), d_bias(*device, 64 * 4);
  machine().memory = in_use() + 100;
  const std::string message = message_of(Fault::no_space, [&] {
    device->matmul_backward_weight(
        {.d_weight = {{View(d_weight.data(), DType::f32, {64, 64}), WeightLayout::in_out}},
         .d_bias = Accumulate(View(d_bias.data(), DType::f32, {64})),
         .d_out = ConstView(x.data(), DType::f32, {64, 64}),
         .x = ConstView(x.data(), DType::f32, {64, 64})});
  });
  INFO(message);
  CHECK(contains(message, "\n  the last op was matmul_backward_weight (M 64, N 64, K 64)\n"));
  CHECK(contains(message, " bytes, 100 of them free\n"));
}

TEST_CASE("a kernel that fails is told by the next call that waits, and by all after it") {
  const Pretence pretence;
  const std::unique_ptr<Device> device = open_cuda_device(0);
  const Buffer x(*device, 400);
  const View view(x.data(), DType::f32, {4, 25});
  machine().fail_launch = 2;
  device->activation_forward({.out = view, .x = view});
  device->dropout({.out = view, .x = view, .p = 0.5f});
  const std::string message = message_of(Fault::device, [&] { device->synchronize(); });
  INFO(message);
  CHECK(contains(message,
                 "error: waiting for the device: cudaStreamSynchronize(stream_) failed: "
                 "unspecified launch failure (cudaErrorLaunchFailure)\n"));
  CHECK(contains(message, "\n  the last op was dropout (count 100)\n"));
  CHECK(contains(message, "CUDA_LAUNCH_BLOCKING=1"));

  float value = 0;
  CHECK(contains(message_of(Fault::device, [&] { device->copy_to_host(&value, x.data(), 4); }),
                 "cudaMemcpyAsync("));
  CHECK(contains(message_of(Fault::device, [&] { device->allocate(1); }), "1 bytes of device"));
  CHECK(contains(
      message_of(Fault::device, [&] { device->activation_forward({.out = view, .x = view}); }),
      "activation_forward"));
  message_of(Fault::device, [] { open_cuda_device(0); });
}

TEST_CASE("a launch that no card takes is refused with the kernel's name") {
  const std::unique_ptr<Device> device = open_cuda_device(0);
  cudaStream_t stream = nullptr;
  REQUIRE(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) == cudaSuccess);
  const auto launch = [&](dim3 grid, dim3 block, std::size_t shared) {
    return message_of(Fault::device,
                      [&] { QUIRE_LAUNCH(nothing, grid, block, shared, stream, 0); });
  };
  for (const std::string& message :
       {launch(0, 32, 0), launch({1, 65536}, 32, 0), launch(1, 1025, 0), launch(1, 0, 0),
        launch(1, 32, cuda_on_host::kMostSharedBytes + 1)}) {
    INFO(message);
    CHECK(contains(message,
                   "error: nothing: cudaGetLastError() failed: invalid configuration "
                   "argument (cudaErrorInvalidConfiguration)\n"));
  }
  QUIRE_LAUNCH(nothing, dim3(2, 65535), 1, cuda_on_host::kMostSharedBytes, stream, 0);
  cudaStreamDestroy(stream);
}

}  // namespace
}  // namespace quire::test

// Faults planted in a kernel are found; the kernel without them is right in any order of threads.
#include <functional>
#include <string>

#include "tests/cuda_on_host/faulty_kernels.h"
#include "tests/support/catch.h"
#include "tests/support/text.h"

namespace quire::test {
namespace {

/// The report of a launch, or "" when there was none.
std::string fault_of(const std::function<void()>& launch) {
  try {
    launch();
  } catch (const cuda_on_host::Fault& fault) {
    return fault.what();
  }
  return "";
}

/// How many of 20 orders of threads give another result than the right one.
template <Planted kFault>
int wrong_orders() {
  int wrong = 0;
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    wrong += run_add_neighbours<kFault>(seed) != expected_neighbours();
  }
  return wrong;
}

TEST_CASE("a kernel without faults gives the same result in every order of threads") {
  CHECK(wrong_orders<Planted::none>() == 0);
}

#ifndef __SANITIZE_THREAD__  // which reports these as races: see CMakeLists.txt
TEST_CASE("a missing barrier shows in the result") {
  CHECK(wrong_orders<Planted::missing_barrier>() > 0);
  CHECK(wrong_orders<Planted::async_copy_without_barrier>() > 0);
}

TEST_CASE("what an overlapped launch reads before it waits is not there") {
  CHECK(wrong_orders<Planted::read_before_waiting>() > 0);
}
#endif

TEST_CASE("shared memory that was not written is not a number") {
  CHECK(std::isnan(run_add_neighbours<Planted::unwritten_shared_memory>().back()));
}

TEST_CASE("an asynchronous copy that is not waited for is not there") {
  CHECK(std::isnan(run_add_neighbours<Planted::async_copy_without_wait>().front()));
}

TEST_CASE("barriers and warps that diverge are reported with threads and lines") {
  const std::string divergent = fault_of([] { run_add_neighbours<Planted::divergent_barrier>(); });
  CHECK(contains(divergent, "add_neighbours"));
  CHECK(contains(divergent,
                 "divergent barrier: threads 0 to 31 at __syncthreads (faulty_kernels.h:"));
  CHECK(contains(divergent, "; threads 32 to 63 at __syncthreads"));

  const std::string half = fault_of([] { run_add_neighbours<Planted::barrier_in_half_a_warp>(); });
  CHECK(contains(half, "deadlock: threads 0 to 15 at __syncthreads"));
  CHECK(contains(half, "threads 16 to 31 at a shuffle"));

  CHECK(contains(fault_of([] { run_add_neighbours<Planted::shuffle_without_own_lane>(); }),
                 "a mask that leaves its own lane out"));
}

TEST_CASE("an overlapped launch that ends without waiting for the one before it is reported") {
  CHECK(contains(fault_of([] { run_add_neighbours<Planted::end_without_waiting>(); }),
                 "ends without having waited"));
}

TEST_CASE("after a fault the next launch is sound") {
  CHECK(fault_of([] { run_add_neighbours<Planted::divergent_barrier>(); }) != "");
  CHECK(run_add_neighbours<Planted::none>() == expected_neighbours());
}

#ifndef QUIRE_UNDER_ASAN  // which reports both where they happen, and ends: see CMakeLists.txt
TEST_CASE("global memory beyond its end is not a number") {
  CHECK(std::isnan(run_add_neighbours<Planted::read_beyond_global_memory>().back()));
}

TEST_CASE("a write beyond an array in shared memory is reported when the block ends") {
  CHECK(contains(fault_of([] { run_add_neighbours<Planted::write_beyond_shared_memory>(); }),
                 "a write beyond an array of 256 bytes in shared memory"));
}
#endif

TEST_CASE("launches that no GPU takes are refused") {
  const auto nothing = [] {};
  CHECK(contains(fault_of([&] { cuda_on_host::run_kernel("k", {1}, {1025}, 0, nothing); }),
                 "cannot be launched"));
  CHECK(contains(fault_of([&] { cuda_on_host::run_kernel("k", {0}, {32}, 0, nothing); }),
                 "cannot be launched"));
}

TEST_CASE("work on a stream is not done before the host waits for it") {
  cudaStream_t stream = nullptr;
  REQUIRE(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) == cudaSuccess);
  void* data = nullptr;
  REQUIRE(cudaMalloc(&data, sizeof(float)) == cudaSuccess);
  float value = 3.0f, result = 0.0f;
  cudaMemcpyAsync(data, &value, sizeof value, cudaMemcpyHostToDevice, stream);
  value = 4.0f;  // has been read already
  cudaMemcpyAsync(&result, data, sizeof result, cudaMemcpyDeviceToHost, stream);
  CHECK(result == 0.0f);
  cudaStreamSynchronize(stream);
  CHECK(result == 3.0f);
  CHECK(fault_of([&] { cudaMemsetAsync(data, 0, 8, stream); }) != "");
  CHECK(fault_of([&] {
          cudaMemcpyAsync(&result, &value, sizeof value, cudaMemcpyDeviceToDevice, stream);
        }) != "");
  cudaFree(data);
  cudaStreamDestroy(stream);
}

TEST_CASE("a captured graph runs its work at each launch") {
  cudaStream_t stream = nullptr;
  cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
  int runs = 0;
  REQUIRE(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal) == cudaSuccess);
  cuda_on_host::enqueue(stream, [&] { ++runs; });
  CHECK(cudaStreamSynchronize(stream) == cudaErrorStreamCaptureUnsupported);
  CHECK(cudaGetLastError() == cudaErrorStreamCaptureUnsupported);
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t executable = nullptr;
  REQUIRE(cudaStreamEndCapture(stream, &graph) == cudaSuccess);
  REQUIRE(cudaGraphInstantiate(&executable, graph) == cudaSuccess);
  cudaGraphDestroy(graph);
  cudaStreamSynchronize(stream);
  CHECK(runs == 0);
  for (int i = 0; i < 3; ++i) cudaGraphLaunch(executable, stream);
  cudaStreamSynchronize(stream);
  CHECK(runs == 3);
  cudaGraphExecDestroy(executable);
  cudaStreamDestroy(stream);
}

}  // namespace
}  // namespace quire::test

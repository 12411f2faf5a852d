// The part of CUDA's runtime API that the project calls, on the CPU, under CUDA's own names.
//
// Device memory is host memory between margins that are checked when it is freed. Work on a stream
// is queued and runs when the host waits for it, not before: a result that is read without waiting
// is not there, and a buffer that is released too early is found by AddressSanitizer. An exception
// of a kernel (Fault) comes out of the call that waits. Of an overlapped launch and the kernel
// before it every second pair runs as a card may run it: the later kernel first, until a thread of
// it waits.
//
// What the machine pretends to be can be set from outside, for tests of the program:
//   QUIRE_CUDA_ON_HOST=memory=64M,taken=32M,driver=11080,compute=7.5,devices=0,fail_launch=200,
//     groups=0,break_kernel=activation_forward
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "tests/cuda_on_host/block.h"

enum cudaError_t : int {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorMemoryAllocation = 2,
  cudaErrorInvalidConfiguration = 9,
  cudaErrorNoDevice = 100,
  cudaErrorInvalidDevice = 101,
  cudaErrorLaunchFailure = 719,
  cudaErrorStreamCaptureUnsupported = 900,
};
const char* cudaGetErrorName(cudaError_t error);
const char* cudaGetErrorString(cudaError_t error);
/// The last error of any call, and forgets it.
cudaError_t cudaGetLastError();

namespace quire::cuda_on_host {
struct Stream;
struct Graph;
}  // namespace quire::cuda_on_host
using cudaStream_t = quire::cuda_on_host::Stream*;
using cudaGraph_t = quire::cuda_on_host::Graph*;
using cudaGraphExec_t = quire::cuda_on_host::Graph*;

inline constexpr unsigned cudaStreamNonBlocking = 1;
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);

cudaError_t cudaMalloc(void** data, std::size_t bytes);
cudaError_t cudaFree(void* data);
cudaError_t cudaMemGetInfo(std::size_t* free, std::size_t* total);
enum cudaMemcpyKind { cudaMemcpyHostToDevice, cudaMemcpyDeviceToHost, cudaMemcpyDeviceToDevice };
/// Host memory counts as pageable: what comes from it is read before the call returns.
cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream);
/// From one place of device memory to another.
cudaError_t cudaMemcpy2DAsync(void* to, std::size_t to_pitch, const void* from,
                              std::size_t from_pitch, std::size_t width, std::size_t height,
                              cudaMemcpyKind kind, cudaStream_t stream);
cudaError_t cudaMemsetAsync(void* data, int value, std::size_t bytes, cudaStream_t stream);

enum cudaStreamCaptureMode { cudaStreamCaptureModeGlobal, cudaStreamCaptureModeThreadLocal };
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode);
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph,
                                 unsigned long long flags = 0);
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream);
cudaError_t cudaGraphDestroy(cudaGraph_t graph);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable);

struct cudaDeviceProp {
  char name[256];
  std::size_t totalGlobalMem;
  std::size_t sharedMemPerBlockOptin;
  int major, minor;
  int multiProcessorCount;
};
cudaError_t cudaGetDeviceCount(int* count);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaDriverGetVersion(int* version);
cudaError_t cudaRuntimeGetVersion(int* version);

enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize };
template <class... P>
cudaError_t cudaFuncSetAttribute(void (*)(P...), cudaFuncAttribute, int) {
  return cudaSuccess;
}

namespace quire::cuda_on_host {

inline constexpr std::size_t kMostSharedBytes = 227 << 10;  // of a block, as on sm_90

/// Runs `work` when the stream comes to it, or each time its graph is launched.
void enqueue(cudaStream_t stream, std::function<void()> work);

/// The same for a kernel, where the card can run it: else the launch is the last error. It is given
/// the kernel before it to run, or nothing.
using Kernel = std::function<void(std::function<void()> previous)>;
void enqueue_kernel(cudaStream_t stream, Index3 grid, Index3 block, std::size_t shared_bytes,
                    bool overlaps, Kernel kernel);

/// What this machine pretends to be; QUIRE_CUDA_ON_HOST where it begins.
struct Machine {
  std::size_t memory = std::size_t{8} << 30;
  std::size_t taken = 0;  ///< of it, by other processes
  int devices = 1;
  int compute_major = 9, compute_minor = 0;
  int driver_version = 13000, runtime_version = 13000;
  const char* why_no_gemm_library = "";
  int gemm_library_version = 1;
  int products_timed = 0;  ///< counts up
  bool groups = true;      ///< NCCL is there
  /// Counts down with every kernel that runs: the one that makes it 0 fails, and the device is lost
  /// to all calls that follow. 0: none fails.
  std::int64_t fail_launch = 0;
  bool lost = false;
  /// Kernels whose launches name it leave out their last block. Empty: none.
  std::string broken_kernel;
};
Machine& machine();
/// As a launch writes it: "(cuda::activation_forward<T, whole()>)".
bool is_broken(std::string_view kernel);
/// Device memory that was allocated at once, at the most, since the last call.
std::size_t take_peak_memory();

}  // namespace quire::cuda_on_host

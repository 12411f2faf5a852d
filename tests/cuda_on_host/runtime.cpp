#include "tests/cuda_on_host/runtime.h"

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "tests/cuda_on_host/block.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(data, bytes) ((void)(data), (void)(bytes))
#define ASAN_UNPOISON_MEMORY_REGION(data, bytes) ((void)(data), (void)(bytes))
#endif

namespace quire::cuda_on_host {

struct Stream {
  std::vector<std::function<void()>> queue;
  Graph* capture = nullptr;
};
struct Graph {
  std::vector<std::function<void()>> work;
};

namespace {

constexpr std::size_t kMargin = 256;  // cudaMalloc's alignment too
constexpr int kUnwritten = 0xff;

std::vector<Stream*>& streams() {
  static auto& all = *new std::vector<Stream*>;  // outlives every static device
  return all;
}

/// Runs what waits in the queue.
void drain(Stream& stream) {
  const std::vector<std::function<void()>> queue = std::exchange(stream.queue, {});
  for (const std::function<void()>& work : queue) work();
}

struct Memory {
  std::map<const std::byte*, std::size_t> blocks;
  std::size_t used = 0;
};
Memory& memory() {
  static auto& instance = *new Memory;
  return instance;
}

cudaError_t& last_error() {
  static cudaError_t error = cudaSuccess;
  return error;
}
cudaError_t fail(cudaError_t error) {
  return last_error() = error;
}

std::size_t whole(std::size_t bytes) {
  return (bytes + kMargin - 1) / kMargin * kMargin + 2 * kMargin;
}

/// Whether all of it lies in one block of device memory.
bool on_device(const void* data, std::size_t bytes) {
  const auto* first = static_cast<const std::byte*>(data);
  auto after = memory().blocks.upper_bound(first);
  if (after == memory().blocks.begin()) return false;
  const auto& [begin, size] = *std::prev(after);
  return first >= begin && first + bytes <= begin + size;
}

void require_on_device(const char* call, const void* data, std::size_t bytes) {
  if (!on_device(data, bytes)) {
    throw Fault(std::string(call) + ": " + std::to_string(bytes) +
                " bytes that are not all in one block of device memory");
  }
}

}  // namespace

Machine& machine() {
  static Machine instance;
  return instance;
}

void enqueue(cudaStream_t stream, std::function<void()> work) {
  (stream->capture != nullptr ? stream->capture->work : stream->queue).push_back(std::move(work));
}

}  // namespace quire::cuda_on_host

using namespace quire::cuda_on_host;

const char* cudaGetErrorName(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "cudaSuccess";
    case cudaErrorInvalidValue:
      return "cudaErrorInvalidValue";
    case cudaErrorMemoryAllocation:
      return "cudaErrorMemoryAllocation";
    case cudaErrorInsufficientDriver:
      return "cudaErrorInsufficientDriver";
    case cudaErrorNoDevice:
      return "cudaErrorNoDevice";
    case cudaErrorStreamCaptureUnsupported:
      return "cudaErrorStreamCaptureUnsupported";
  }
  return "?";
}
const char* cudaGetErrorString(cudaError_t error) {
  return cudaGetErrorName(error);
}
cudaError_t cudaGetLastError() {
  return std::exchange(last_error(), cudaSuccess);
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  *stream = new Stream;
  streams().push_back(*stream);
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  std::erase(streams(), stream);
  delete stream;
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  if (stream->capture != nullptr) return fail(cudaErrorStreamCaptureUnsupported);
  drain(*stream);
  return cudaSuccess;
}

cudaError_t cudaMalloc(void** data, std::size_t bytes) {
  if (memory().used + bytes > machine().memory) return fail(cudaErrorMemoryAllocation);
  auto* block = static_cast<std::byte*>(std::aligned_alloc(kMargin, whole(bytes)));
  std::memset(block, kUnwritten, whole(bytes));
  *data = block + kMargin;
  ASAN_POISON_MEMORY_REGION(block, kMargin);
  ASAN_POISON_MEMORY_REGION(block + kMargin + bytes, whole(bytes) - kMargin - bytes);
  memory().blocks[block + kMargin] = bytes;
  memory().used += bytes;
  return cudaSuccess;
}

cudaError_t cudaFree(void* data) {
  if (data == nullptr) return cudaSuccess;
  const auto found = memory().blocks.find(static_cast<const std::byte*>(data));
  if (found == memory().blocks.end()) return fail(cudaErrorInvalidValue);
  try {
    for (Stream* stream : streams()) drain(*stream);  // cudaFree waits for the device
  } catch (const Fault& fault) {
    std::fprintf(stderr, "%s\n", fault.what());  // comes from destructors: nothing can be thrown
    std::_Exit(EXIT_FAILURE);
  }
  const std::size_t bytes = found->second;
  std::byte* block = static_cast<std::byte*>(data) - kMargin;
  ASAN_UNPOISON_MEMORY_REGION(block, whole(bytes));
  const auto unwritten = [](std::byte b) { return b == std::byte{kUnwritten}; };
  const bool intact = std::all_of(block, block + kMargin, unwritten) &&
                      std::all_of(block + kMargin + bytes, block + whole(bytes), unwritten);
  memory().used -= bytes;
  memory().blocks.erase(found);
  std::free(block);
  if (!intact) {
    std::fprintf(stderr, "a write beyond a block of %zu bytes of device memory\n", bytes);
    std::_Exit(EXIT_FAILURE);
  }
  return cudaSuccess;
}

cudaError_t cudaMemGetInfo(std::size_t* free, std::size_t* total) {
  *total = machine().memory;
  *free = machine().memory - memory().used;
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  if (kind != cudaMemcpyDeviceToHost) require_on_device("cudaMemcpyAsync to", to, bytes);
  if (kind != cudaMemcpyHostToDevice) require_on_device("cudaMemcpyAsync from", from, bytes);
  if (kind == cudaMemcpyHostToDevice) {
    const auto* first = static_cast<const std::byte*>(from);
    enqueue(stream, [to, bytes_read = std::vector<std::byte>(first, first + bytes)] {
      std::memcpy(to, bytes_read.data(), bytes_read.size());
    });
  } else {
    enqueue(stream, [=] { std::memcpy(to, from, bytes); });
  }
  return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void* data, int value, std::size_t bytes, cudaStream_t stream) {
  require_on_device("cudaMemsetAsync", data, bytes);
  enqueue(stream, [=] { std::memset(data, value, bytes); });
  return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  if (stream->capture != nullptr) return fail(cudaErrorStreamCaptureUnsupported);
  stream->capture = new Graph;
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  if (stream->capture == nullptr) return fail(cudaErrorInvalidValue);
  *graph = std::exchange(stream->capture, nullptr);
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph,
                                 unsigned long long) {
  *executable = new Graph(*graph);
  return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  for (const std::function<void()>& work : executable->work) enqueue(stream, work);
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  delete executable;
  return cudaSuccess;
}

cudaError_t cudaGetDeviceCount(int* count) {
  *count = machine().devices;
  return *count > 0 ? cudaSuccess : fail(cudaErrorNoDevice);
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  if (device >= machine().devices) return fail(cudaErrorInvalidValue);
  *properties = {};
  std::strcpy(properties->name, "CUDA on the host");
  properties->totalGlobalMem = machine().memory;
  properties->sharedMemPerBlockOptin = 227 << 10;
  properties->major = machine().compute_major;
  properties->minor = machine().compute_minor;
  properties->multiProcessorCount = 4;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) {
  return device < machine().devices ? cudaSuccess : fail(cudaErrorInvalidValue);
}
cudaError_t cudaDriverGetVersion(int* version) {
  *version = machine().driver_version;
  return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = machine().runtime_version;
  return cudaSuccess;
}

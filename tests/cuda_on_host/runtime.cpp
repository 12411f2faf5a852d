#include "tests/cuda_on_host/runtime.h"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#ifdef QUIRE_UNDER_ASAN
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(data, bytes) ((void)(data), (void)(bytes))
#define ASAN_UNPOISON_MEMORY_REGION(data, bytes) ((void)(data), (void)(bytes))
#endif

namespace quire::cuda_on_host {

struct Work {
  Kernel run;
  bool is_kernel = false;
  bool overlaps = false;  // may begin before the kernel before it has ended
};
struct Stream {
  std::vector<Work> queue;
  Graph* capture = nullptr;
};
struct Graph {
  std::vector<Work> work;
};

namespace {

constexpr std::size_t kMargin = 256;  // cudaMalloc's alignment too
constexpr int kUnwritten = 0xff;

std::vector<Stream*>& streams() {
  static auto& all = *new std::vector<Stream*>;  // outlives every static device
  return all;
}

/// Runs what waits in the queue, as far as the device lives.
void drain(Stream& stream) {
  static bool together = false;  // the last pair that could be
  const std::vector<Work> queue = std::exchange(stream.queue, {});
  for (std::size_t i = 0; i < queue.size() && !machine().lost; ++i) {
    const bool may_be = queue[i].is_kernel && i + 1 < queue.size() && queue[i + 1].overlaps;
    if (may_be) together = !together;
    if (may_be && together) {
      queue[i + 1].run([&previous = queue[i]] { previous.run(nullptr); });
      ++i;
    } else {
      queue[i].run(nullptr);
    }
  }
}

void add(Stream& stream, Work work) {
  (stream.capture != nullptr ? stream.capture->work : stream.queue).push_back(std::move(work));
}

struct Memory {
  std::map<const std::byte*, std::size_t> blocks;
  std::size_t used = 0;
  std::size_t peak = 0;
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
/// What every call gives where nothing else is wrong with it.
cudaError_t state() {
  return machine().lost ? fail(cudaErrorLaunchFailure) : cudaSuccess;
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

[[noreturn]] void refuse(std::string_view setting) {
  throw Fault("QUIRE_CUDA_ON_HOST: what is '" + std::string(setting) + "'?");
}

/// A whole number and what is behind it.
std::pair<std::int64_t, std::string_view> number_of(std::string_view text) {
  std::int64_t value = 0;
  const auto [rest, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || value < 0) refuse(text);
  return {value, text.substr(static_cast<std::size_t>(rest - text.data()))};
}

void apply(std::string_view setting, Machine& machine) {
  const std::size_t equals = std::min(setting.find('='), setting.size() - 1);
  const std::string_view name = setting.substr(0, equals);
  if (name == "break_kernel") {
    machine.broken_kernel = setting.substr(equals + 1);
    return;
  }
  const auto [value, rest] = number_of(setting.substr(equals + 1));
  if ((name == "memory" || name == "taken") && (rest.empty() || rest == "M")) {
    (name == "memory" ? machine.memory : machine.taken) = static_cast<std::size_t>(value)
                                                          << (rest.empty() ? 0 : 20);
  } else if (name == "compute" && rest.starts_with('.')) {
    machine.compute_major = static_cast<int>(value);
    machine.compute_minor = static_cast<int>(number_of(rest.substr(1)).first);
  } else if (name == "driver" && rest.empty()) {
    machine.driver_version = static_cast<int>(value);
  } else if (name == "devices" && rest.empty()) {
    machine.devices = static_cast<int>(value);
  } else if (name == "groups" && rest.empty()) {
    machine.groups = value != 0;
  } else if (name == "fail_launch" && rest.empty()) {
    machine.fail_launch = value;
  } else {
    refuse(setting);
  }
}

Machine machine_of_environment() {
  Machine machine;
  const char* const variable = std::getenv("QUIRE_CUDA_ON_HOST");
  std::string_view settings = variable != nullptr ? variable : "";
  while (!settings.empty()) {
    const std::size_t end = std::min(settings.find(','), settings.size());
    apply(settings.substr(0, end), machine);
    settings.remove_prefix(std::min(end + 1, settings.size()));
  }
  return machine;
}

}  // namespace

Machine& machine() {
  static Machine instance = machine_of_environment();
  return instance;
}

bool is_broken(std::string_view kernel) {
  const std::string& broken = machine().broken_kernel;
  return !broken.empty() && kernel.find(broken) != std::string_view::npos;
}

std::size_t take_peak_memory() {
  return std::exchange(memory().peak, memory().used);
}

void enqueue_kernel(cudaStream_t stream, Index3 grid, Index3 block, std::size_t shared_bytes,
                    bool overlaps, Kernel kernel) {
  const bool fits = grid.count() > 0 && grid.x <= 0x7fffffff && grid.y <= 65535 &&
                    grid.z <= 65535 && block.count() > 0 && block.count() <= 1024 &&
                    block.z <= 64 && shared_bytes <= kMostSharedBytes;
  if (!fits || machine().lost) {
    fail(fits ? cudaErrorLaunchFailure : cudaErrorInvalidConfiguration);
    return;
  }
  add(*stream, {[kernel = std::move(kernel)](std::function<void()> previous) {
                  std::int64_t& left = machine().fail_launch;
                  machine().lost = left > 0 && --left == 0;
                  if (!machine().lost) kernel(std::move(previous));
                },
                true, overlaps});
}

void enqueue(cudaStream_t stream, std::function<void()> work) {
  add(*stream, {[work = std::move(work)](const std::function<void()>&) { work(); }});
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
    case cudaErrorInvalidConfiguration:
      return "cudaErrorInvalidConfiguration";
    case cudaErrorNoDevice:
      return "cudaErrorNoDevice";
    case cudaErrorInvalidDevice:
      return "cudaErrorInvalidDevice";
    case cudaErrorLaunchFailure:
      return "cudaErrorLaunchFailure";
    case cudaErrorStreamCaptureUnsupported:
      return "cudaErrorStreamCaptureUnsupported";
  }
  return "?";
}
const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "no error";
    case cudaErrorInvalidValue:
      return "invalid argument";
    case cudaErrorMemoryAllocation:
      return "out of memory";
    case cudaErrorInvalidConfiguration:
      return "invalid configuration argument";
    case cudaErrorNoDevice:
      return "no CUDA-capable device is detected";
    case cudaErrorInvalidDevice:
      return "invalid device ordinal";
    case cudaErrorLaunchFailure:
      return "unspecified launch failure";
    case cudaErrorStreamCaptureUnsupported:
      return "operation not permitted when stream is capturing";
  }
  return "?";
}
cudaError_t cudaGetLastError() {
  return std::exchange(last_error(), cudaSuccess);
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  if (machine().lost) return state();
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
  return state();
}

cudaError_t cudaMalloc(void** data, std::size_t bytes) {
  if (machine().lost) return state();
  if (memory().used + machine().taken + bytes > machine().memory)
    return fail(cudaErrorMemoryAllocation);
  auto* block = static_cast<std::byte*>(std::aligned_alloc(kMargin, whole(bytes)));
  std::memset(block, kUnwritten, whole(bytes));
  *data = block + kMargin;
  ASAN_POISON_MEMORY_REGION(block, kMargin);
  ASAN_POISON_MEMORY_REGION(block + kMargin + bytes, whole(bytes) - kMargin - bytes);
  memory().blocks[block + kMargin] = bytes;
  memory().used += bytes;
  memory().peak = std::max(memory().peak, memory().used);
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
  return state();
}

cudaError_t cudaMemGetInfo(std::size_t* free, std::size_t* total) {
  *total = machine().memory;
  *free = machine().memory - machine().taken - memory().used;
  return state();
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
  return state();
}
cudaError_t cudaMemcpy2DAsync(void* to, std::size_t to_pitch, const void* from,
                              std::size_t from_pitch, std::size_t width, std::size_t height,
                              cudaMemcpyKind kind, cudaStream_t stream) {
  if (width > to_pitch || width > from_pitch || kind != cudaMemcpyDeviceToDevice) {
    return fail(cudaErrorInvalidValue);
  }
  if (width == 0 || height == 0) return state();
  require_on_device("cudaMemcpy2DAsync to", to, (height - 1) * to_pitch + width);
  require_on_device("cudaMemcpy2DAsync from", from, (height - 1) * from_pitch + width);
  enqueue(stream, [=] {
    for (std::size_t row = 0; row < height; ++row) {
      std::memcpy(static_cast<std::byte*>(to) + row * to_pitch,
                  static_cast<const std::byte*>(from) + row * from_pitch, width);
    }
  });
  return state();
}
cudaError_t cudaMemsetAsync(void* data, int value, std::size_t bytes, cudaStream_t stream) {
  require_on_device("cudaMemsetAsync", data, bytes);
  enqueue(stream, [=] { std::memset(data, value, bytes); });
  return state();
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
  for (const Work& work : executable->work) add(*stream, work);
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
  if (device >= machine().devices) return fail(cudaErrorInvalidDevice);
  *properties = {};
  std::strcpy(properties->name, "CUDA on the host");
  properties->totalGlobalMem = machine().memory;
  properties->sharedMemPerBlockOptin = kMostSharedBytes;
  properties->major = machine().compute_major;
  properties->minor = machine().compute_minor;
  properties->multiProcessorCount = 4;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) {
  return device < machine().devices ? state() : fail(cudaErrorInvalidDevice);
}
cudaError_t cudaDriverGetVersion(int* version) {
  *version = machine().driver_version;
  return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = machine().runtime_version;
  return cudaSuccess;
}

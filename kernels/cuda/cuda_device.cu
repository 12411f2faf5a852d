// The device itself: memory, the stream, scratch.
#include "kernels/cuda/cuda_device.h"

#include <algorithm>

#include "kernels/check.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/device_group.h"

namespace quire::cuda {

void throw_cuda(cudaError_t error, const char* call, const char* what) {
  cudaGetLastError();  // told here, and not once more by the next launch
  const bool full = error == cudaErrorMemoryAllocation;
  std::vector<std::string> details;
  if (full) {
    std::size_t free = 0, total = 0;
    if (cudaMemGetInfo(&free, &total) == cudaSuccess) {
      details.push_back("the card has " + std::to_string(total) + " bytes, " +
                        std::to_string(free) + " of them free");
    }
  }
  if (const std::string op = last_op(); !op.empty()) details.push_back("the last op was " + op);
  if (!full) {
    details.emplace_back(
        "a kernel's fault comes out of a later call; with CUDA_LAUNCH_BLOCKING=1 it comes out of "
        "its launch");
  }
  throw Error(
      full ? Fault::no_space : Fault::device,
      std::string(what) + ": " + call + " failed: " + cudaGetErrorString(error) + " (" +
          cudaGetErrorName(error) + ")",
      std::move(details),
      full ? "smaller batches, shorter rows or `device` cpu; nvidia-smi shows what else "_named
             "the card holds"
           : "quire doctor");
}

std::string why_unusable(int index) {
  int driver = 0, runtime = 0, count = 0;
  if (cudaDriverGetVersion(&driver) != cudaSuccess || driver == 0) {
    cudaGetLastError();
    return "no NVIDIA driver is loaded";
  }
  cudaRuntimeGetVersion(&runtime);
  if (driver / 1000 < runtime / 1000) {
    return "the driver is for CUDA " + version_text(driver) + ", this build needs " +
           version_text(runtime);
  }
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess) {
    cudaGetLastError();
    return std::string("CUDA says: ") + cudaGetErrorString(error);
  }
  if (index >= count) {
    return count == 0 ? "there is no card"
                      : "there is no card " + std::to_string(index) + ", the last one is " +
                            std::to_string(count - 1);
  }
  cudaDeviceProp properties{};
  if (cudaGetDeviceProperties(&properties, index) != cudaSuccess) {
    cudaGetLastError();
    return "the card does not answer";
  }
  if (properties.major < 8) {  // sm_80: bfloat16, asynchronous copies
    return std::string("the card, ") + properties.name + ", has compute capability " +
           std::to_string(properties.major) + "." + std::to_string(properties.minor) +
           ", and the kernels need 8.0";
  }
  return why_no_gemm_library();
}

CudaDevice::CudaDevice(int index, const DeviceOptions& options) : on_trial_(options.on_trial) {
  QUIRE_CUDA(cudaSetDevice(index), "opening the device");
  QUIRE_CUDA(cudaGetDeviceProperties(&properties_, index), "opening the device");
  QUIRE_CUDA(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "opening the device");
  key_ = key_of(properties_);
  why_unproven_ = cuda::why_unproven(key_);
  gemm_ = std::make_unique<GemmLibrary>(open_gemm_algorithms(), key_,
                                        TuningOptions{options.autotune, options.warn});
}

CudaDevice::~CudaDevice() {
  gemm_.reset();
  cudaStreamDestroy(stream_);
}

void CudaDevice::keep_proof(bool passed) {
  cuda::keep_proof(key_, passed);
  why_unproven_ = cuda::why_unproven(key_);
}

std::optional<DeviceMemory> CudaDevice::memory() const {
  DeviceMemory memory;
  QUIRE_CUDA(cudaMemGetInfo(&memory.free, &memory.total), "asking for free memory");
  return memory;
}

void* CudaDevice::allocate(std::size_t bytes) {
  void* data = nullptr;
  QUIRE_CUDA(cudaMalloc(&data, std::max<std::size_t>(bytes, 1)),
             (std::to_string(bytes) + " bytes of device memory").c_str());
  return data;
}

void CudaDevice::copy_to_device(void* to, const void* from_host, std::size_t bytes) {
  QUIRE_CUDA(cudaMemcpyAsync(to, from_host, bytes, cudaMemcpyHostToDevice, stream_), "copying");
}

void CudaDevice::copy_to_host(void* to_host, const void* from, std::size_t bytes) {
  QUIRE_CUDA(cudaMemcpyAsync(to_host, from, bytes, cudaMemcpyDeviceToHost, stream_), "copying");
  synchronize();
}

void CudaDevice::copy(void* to, const void* from, std::size_t bytes) {
  QUIRE_CUDA(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream_), "copying");
}

void CudaDevice::copy_pieces(void* to, const void* from, std::size_t bytes, std::size_t count,
                             std::size_t stride) {
  QUIRE_CUDA(
      cudaMemcpy2DAsync(to, stride, from, stride, bytes, count, cudaMemcpyDeviceToDevice, stream_),
      "copying");
}

void CudaDevice::fill_zero(void* data, std::size_t bytes) {
  QUIRE_CUDA(cudaMemsetAsync(data, 0, bytes, stream_), "clearing");
}

void CudaDevice::synchronize() {
  QUIRE_CUDA(cudaStreamSynchronize(stream_), "waiting for the device");
}

std::string CudaDevice::name_new_group() {
  return cuda::why_no_groups().empty() ? cuda::name_new_group() : "";
}

std::unique_ptr<DeviceGroup> CudaDevice::join_group(const std::string& name, int number, int size) {
  return cuda::join_group(name, number, size, stream_);
}

bool CudaDevice::grow(Block& block, std::size_t bytes) {
  if (bytes <= block.bytes) return false;
  block = {};  // cudaFree waits for the kernels that use it
  block = {{allocate(bytes), cudaFree}, bytes};
  return true;
}

void* CudaDevice::scratch(std::size_t bytes) {
  grow(scratch_, bytes);
  return scratch_.data.get();
}

unsigned* CudaDevice::arrivals(std::size_t count) {
  const std::size_t bytes = count * sizeof(unsigned);
  if (grow(arrivals_, bytes)) fill_zero(arrivals_.data.get(), bytes);
  return static_cast<unsigned*>(arrivals_.data.get());
}

unsigned CudaDevice::persistent_blocks(std::int64_t rows_of_blocks, int times) const {
  return static_cast<unsigned>(std::min<std::int64_t>(
      rows_of_blocks, std::int64_t{properties_.multiProcessorCount} * times));
}

}  // namespace quire::cuda

namespace quire {

std::unique_ptr<Device> open_cuda_device(int index, const DeviceOptions& options) {
  const std::string reason = cuda::why_unusable(index);
  if (!reason.empty()) {
    const bool another = index > 0 && cuda::why_unusable(0).empty();
    throw Error(Fault::device, "CUDA cannot be used: " + reason, {},
                another ? "`device` cuda"_named : "`device` cpu"_named);
  }
  return std::make_unique<cuda::CudaDevice>(index, options);
}

}  // namespace quire

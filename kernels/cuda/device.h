// The class behind open_cuda_device(). Each op is in the .cu file of its name: kernels above, the
// method that launches them below.
//
// All work goes to one stream, in the order of the calls; scratch is one block that grows. Streams
// and handles belong to the object, so several devices do not meet. A recording is a CUDA graph of
// what went to the stream (recording.cu).
#pragma once

#include <cstddef>
#include <memory>
#include <string>

#include "kernels/cuda/cuda_device.h"
#include "kernels/cuda/error.h"
#include "kernels/cuda/gemm_library.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/proof.h"
#include "kernels/cuda/tensor_table.h"
#include "kernels/device.h"

namespace quire::cuda {

class CudaDevice final : public Device {
 public:
  explicit CudaDevice(int index, const DeviceOptions& options = {});
  ~CudaDevice() override;
  CudaDevice(const CudaDevice&) = delete;
  CudaDevice& operator=(const CudaDevice&) = delete;

  std::string description() const override { return std::string("CUDA, ") + properties_.name; }
  bool shares_host_memory() const override { return false; }
  DType activation_type(DType weights) const override { return weights; }
  bool prefers_out_in(std::int64_t rows) const override;
  bool rows_alone() const override { return gemm_->rows_alone(); }
  std::string tuned() const override { return gemm_->tuned(); }
  std::string epilogues() const override { return gemm_->epilogues(); }
  std::string why_unproven() const override { return why_unproven_; }
  void keep_proof(bool passed) override;
  int vocab_multiple() const override { return 128; }
  /// 16,384 rows read and write the float gradient of GPT-2's table 4 times for 65,536 tokens,
  /// 2.5 GB; 256 rows would do it 256 times, 79 GB.
  std::int64_t head_rows() const override { return 16384; }

  std::optional<DeviceMemory> memory() const override;
  void* allocate(std::size_t bytes) override;
  void release(void* data) noexcept override { cudaFree(data); }
  void copy_to_device(void* to, const void* from_host, std::size_t bytes) override;
  void copy_to_host(void* to_host, const void* from, std::size_t bytes) override;
  void copy(void* to, const void* from, std::size_t bytes) override;
  void copy_pieces(void* to, const void* from, std::size_t bytes, std::size_t count,
                   std::size_t stride) override;
  void fill_zero(void* data, std::size_t bytes) override;
  void synchronize() override;
  void decode_step(DecodeStep& step) override;
  std::string name_new_group() override;
  std::unique_ptr<DeviceGroup> join_group(const std::string& name, int number, int size) override;

  void layernorm_matmul(const LayernormMatmul&) override;

 protected:
  QUIRE_OPS(QUIRE_OVERRIDE_OP)
  double do_squared_norm(std::span<const ConstView> tensors) override;

 private:
  /// Whether kernels of one chip may run: they have passed `quire doctor --verify` with this build
  /// on this card and driver, or are at it.
  bool proven() const { return on_trial_ || why_unproven_.empty(); }

  /// Device memory that only grows. Whoever recorded work on a block keeps it beside the new one.
  struct Block {
    std::shared_ptr<void> data;
    std::size_t bytes = 0;
  };
  /// True when it had to be replaced by a larger one.
  bool grow(Block& block, std::size_t bytes);

  /// GemmLibrary::run(), with what lies off its alignment copied to where it does not.
  bool multiply(Gemm gemm);

  /// Device memory of at least `bytes` for the kernels of one op; the next op may overwrite it.
  void* scratch(std::size_t bytes);
  template <class T>
  T* scratch(std::int64_t count) {
    return static_cast<T*>(scratch(static_cast<std::size_t>(count) * sizeof(T)));
  }
  /// Counters that every kernel finds at zero and leaves at zero.
  unsigned* arrivals(std::size_t count);
  /// How the kernels of decoding are launched.
  ChainLaunch chain() const {
    const bool overlapped = proven() && properties_.major >= 9;
    return {stream_, overlapped, properties_.multiProcessorCount, overlapped && recording_};
  }
  /// Blocks that fill the card `times` over, for kernels that stay and take one row after another.
  unsigned persistent_blocks(std::int64_t rows_of_blocks, int times) const;

  cudaDeviceProp properties_{};
  const bool on_trial_;
  CardKey key_;
  std::string why_unproven_;
  cudaStream_t stream_ = nullptr;
  bool recording_ = false;  // what the stream is given becomes a graph
  Block scratch_, arrivals_, aligned_;
  std::unique_ptr<GemmLibrary> gemm_;
  TensorTable adamw_tensors_, norm_tensors_;  // of the last call
};

}  // namespace quire::cuda

// The tensors of an op over many of them, in device memory: one launch takes all.
//
// A model has 148 parameters, most of them small: a launch for each would leave the card idle
// between them. The tensors are cut into chunks of 8192 elements, a block for each. The table is
// uploaded when the set of tensors changes, which in training it does once.
#pragma once

#include <cstring>
#include <span>
#include <vector>

#include "kernels/cuda/error.h"
#include "kernels/tensor.h"

namespace quire::cuda {

/// What an op wants to know of a tensor; it leaves the rest as it is.
struct TensorEntry {
  float* param = nullptr;
  const float* grad = nullptr;
  float* m = nullptr;
  float* v = nullptr;
  void* copy = nullptr;
  std::int64_t count = 0;
  float weight_decay = 0.0f;
  DType copy_type = DType::bf16;
  bool whole = false;  ///< may be accessed in steps of 16 bytes

  bool operator==(const TensorEntry&) const = default;
};

class TensorTable {
 public:
  static constexpr std::int64_t kChunk = 8192;

  /// Elements [first, first + kChunk) of a tensor, or what there is of them.
  struct Chunk {
    std::int64_t first;
    std::int64_t tensor;
  };

  TensorTable() = default;
  TensorTable(const TensorTable&) = delete;
  TensorTable& operator=(const TensorTable&) = delete;
  ~TensorTable() { cudaFree(data_); }

  /// Makes the table that of `entries`, in the order of the stream's work.
  void assign(std::vector<TensorEntry> entries, cudaStream_t stream) {
    if (entries == entries_) return;
    entries_.clear();  // until the new ones are there
    std::vector<Chunk> chunks;
    for (std::size_t tensor = 0; tensor < entries.size(); ++tensor) {
      for (std::int64_t first = 0; first < entries[tensor].count; first += kChunk) {
        chunks.push_back({first, static_cast<std::int64_t>(tensor)});
      }
    }
    const std::size_t of_entries = entries.size() * sizeof(TensorEntry);
    std::vector<std::byte> bytes(of_entries + chunks.size() * sizeof(Chunk));
    std::memcpy(bytes.data(), entries.data(), of_entries);
    std::memcpy(bytes.data() + of_entries, chunks.data(), chunks.size() * sizeof(Chunk));
    if (bytes.size() > capacity_) {
      QUIRE_CUDA(cudaFree(data_), "the table of tensors");
      data_ = nullptr;
      capacity_ = 0;
      QUIRE_CUDA(cudaMalloc(&data_, bytes.size()), "the table of tensors");
      capacity_ = bytes.size();
    }
    QUIRE_CUDA(cudaMemcpyAsync(data_, bytes.data(), bytes.size(), cudaMemcpyHostToDevice, stream),
               "the table of tensors");
    entries_ = std::move(entries);
    chunks_ = static_cast<unsigned>(chunks.size());
  }

  /// On the device.
  const TensorEntry* entries() const { return static_cast<const TensorEntry*>(data_); }
  const Chunk* chunks() const {
    return reinterpret_cast<const Chunk*>(entries() + entries_.size());
  }
  unsigned blocks() const { return chunks_; }

 private:
  std::vector<TensorEntry> entries_;
  void* data_ = nullptr;
  std::size_t capacity_ = 0;
  unsigned chunks_ = 0;
};

}  // namespace quire::cuda

// Host memory in the alignment that vectors and the page tables like.
#pragma once

#include <cstddef>
#include <utility>

namespace quire::cpu {

/// At least `bytes` (0 is fine), uninitialised, aligned to 64 bytes; blocks of 4 MiB and more start
/// on a 2 MiB boundary and ask for huge pages. Throws Error(no_space) naming the size.
void* allocate_aligned(std::size_t bytes);
void release_aligned(void* data) noexcept;

/// A block of the above that only ever grows and forgets its contents when it does.
class GrowingBlock {
 public:
  GrowingBlock() = default;
  GrowingBlock(GrowingBlock&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  GrowingBlock& operator=(GrowingBlock&&) = delete;
  ~GrowingBlock() { release_aligned(data_); }

  std::byte* at_least(std::size_t bytes);

 private:
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace quire::cpu

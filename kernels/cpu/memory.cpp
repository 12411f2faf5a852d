#include "kernels/cpu/memory.h"

#include <cstdint>
#include <cstdlib>
#include <limits>
#include <string>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "base/error.h"

namespace quire::cpu {
namespace {

constexpr std::size_t kCacheLine = 64;
constexpr std::size_t kHugePage = std::size_t{2} << 20;

}  // namespace

void* allocate_aligned(std::size_t bytes) {
  // A huge page is worth its alignment only where the block holds a few of them.
  const std::size_t alignment = bytes >= 2 * kHugePage ? kHugePage : kCacheLine;
  void* data = nullptr;
  if (bytes <= std::numeric_limits<std::size_t>::max() - alignment) {
    // aligned_alloc wants a multiple of the alignment, and one line at least keeps data non-null.
    const std::size_t size =
        (bytes / alignment + (bytes % alignment != 0 || bytes == 0)) * alignment;
    data = std::aligned_alloc(alignment, size);
#if defined(__linux__)
    // Fewer TLB misses: hints, so that a kernel without huge pages is no error. What the heap had
    // in use before has small pages, and keeps them unless they are given back first.
    if (data != nullptr && alignment == kHugePage) {
      madvise(data, size, MADV_DONTNEED);
      madvise(data, size, MADV_HUGEPAGE);
    }
#endif
  }
  if (data == nullptr) {
    throw Error(Fault::no_space, "no memory for a block of " + std::to_string(bytes) + " bytes", {},
                "a smaller batch, a shorter context or a smaller model");
  }
  return data;
}

void release_aligned(void* data) noexcept {
  std::free(data);
}

std::byte* GrowingBlock::at_least(std::size_t bytes) {
  if (bytes > size_) {
    release_aligned(std::exchange(data_, nullptr));
    size_ = 0;
    data_ = static_cast<std::byte*>(allocate_aligned(bytes));
    size_ = bytes;
  }
  return data_;
}

}  // namespace quire::cpu

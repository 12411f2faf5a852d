// Memory for a pass, taken by name from one allocation: the list of names is the memory plan.
//
// The code that lays out a pass runs twice. Over an arena without memory it only counts, and tells
// how much the pass needs; over an arena of that size it hands out views. One list of take() calls
// is thus both the plan that is printed and the layout that is used, and the two cannot disagree.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/device.h"

namespace quire {

/// One line of the memory plan.
struct MemoryItem {
  std::string name;
  std::size_t bytes;
};

/// Hands out memory from front to back. Move-only.
class Arena {
 public:
  /// Counts only: its views have shapes but no memory.
  Arena() = default;
  Arena(Device& device, std::size_t bytes)
      : buffer_(device, bytes),
        first_(static_cast<std::byte*>(buffer_.data())),
        capacity_(buffer_.size()) {}
  /// Over memory of somebody else, which must outlive the views. Null: counts only.
  Arena(std::byte* first, std::size_t bytes) : first_(first), capacity_(bytes) {}

  /// Uninitialised memory, aligned to 64 bytes. `name` is a literal; equal names are one line of
  /// the plan. Throws Error(internal) when the arena's memory is used up.
  View take(const char* name, Shape shape, DType dtype = DType::f32);

  /// Forgets what was taken: the same memory is laid out anew, for a batch of another shape, say.
  void restart();

  std::size_t taken() const { return taken_; }  ///< bytes, gaps included
  std::size_t capacity() const { return capacity_; }
  std::vector<MemoryItem> plan() const;  ///< largest first; adds up to taken()

 private:
  struct Entry {
    const char* name;
    std::size_t bytes;
  };
  Buffer buffer_;
  std::byte* first_ = nullptr;
  std::size_t capacity_ = 0;
  std::size_t taken_ = 0;
  std::vector<Entry> entries_;
};

/// What a plan's items take in all.
std::int64_t bytes_of(const std::vector<MemoryItem>& plan);

/// Sorts largest first, keeping the order of equals.
void sort_by_size(std::vector<MemoryItem>& items);

}  // namespace quire

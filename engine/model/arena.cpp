#include "engine/model/arena.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>

#include "base/error.h"

namespace quire {
namespace {

constexpr std::size_t kAlignment = 64;  // a cache line, and the widest CPU vector

}  // namespace

View Arena::take(const char* name, Shape shape, DType dtype) {
  const std::size_t wanted = shape.count() * size_of(dtype);
  const std::size_t bytes = (wanted + kAlignment - 1) / kAlignment * kAlignment;
  std::byte* const base = first_;
  if (base != nullptr && taken_ + bytes > capacity_) {
    throw Error(Fault::internal, std::string("arena: no room for ") + name,
                {fmt::format("wanted {} bytes after {} of {}", bytes, taken_, capacity_)});
  }
  View view(base == nullptr ? nullptr : base + taken_, dtype, shape);
  taken_ += bytes;
  entries_.push_back({name, bytes});
  return view;
}

void Arena::restart() {
  taken_ = 0;
  entries_.clear();
}

std::vector<MemoryItem> Arena::plan() const {
  std::vector<MemoryItem> items;
  for (const Entry& entry : entries_) {
    const auto found = std::ranges::find(items, entry.name, &MemoryItem::name);
    if (found == items.end()) {
      items.push_back({entry.name, entry.bytes});
    } else {
      found->bytes += entry.bytes;
    }
  }
  sort_by_size(items);
  return items;
}

std::int64_t bytes_of(const std::vector<MemoryItem>& plan) {
  std::int64_t sum = 0;
  for (const MemoryItem& item : plan) sum += item.bytes;
  return sum;
}

void sort_by_size(std::vector<MemoryItem>& items) {
  std::ranges::stable_sort(items, std::greater<>(), &MemoryItem::bytes);
}

}  // namespace quire

#include "engine/formats/weights_in_place.h"

#include <algorithm>
#include <fstream>
#include <numeric>
#include <string>
#include <tuple>
#include <utility>

#include "base/machine.h"

namespace quire {
namespace {

constexpr std::size_t kHugePage = MappedFile::kHugePage;

bool has_huge_pages() {
  std::ifstream in("/sys/kernel/mm/transparent_hugepage/enabled");
  std::string ways;
  return std::getline(in, ways) && ways.find("[never]") == std::string::npos;
}

}  // namespace

void WeightsInPlace::add(const FileTensor& tensor) {
  if (tensor.file == nullptr || tensor.bytes.empty()) return;
  const std::size_t first = tensor.bytes.data() - tensor.file->bytes().data();
  left_.push_back({tensor.file, first, first + tensor.bytes.size()});
}

void WeightsInPlace::begin() {
  // Neighbours in a file are one stretch, as pages do not end where tensors do.
  std::ranges::sort(left_, {}, [](const Stretch& s) { return std::tuple(s.file, s.first); });
  std::vector<Stretch> joined;
  for (const Stretch& s : left_) {
    if (!joined.empty() && joined.back().file == s.file &&
        s.first < joined.back().last + kHugePage) {
      joined.back().last = std::max(joined.back().last, s.last);
    } else {
      joined.push_back(s);
    }
  }
  left_ = std::move(joined);
  const std::size_t all =
      std::accumulate(left_.begin(), left_.end(), std::size_t{0},
                      [](std::size_t sum, const Stretch& s) { return sum + s.last - s.first; });
  a_step_ = std::max((all / 16 + kHugePage - 1) / kHugePage, std::size_t{8}) * kHugePage;
  const bool moves = all >= worth_it_ && has_huge_pages() &&
                     static_cast<std::int64_t>(all) <= available_memory() / 2;
  if (!moves) left_.clear();
}

void WeightsInPlace::step() {
  const std::unique_lock only(busy_, std::try_to_lock);
  if (!only) return;
  if (!std::exchange(begun_, true)) begin();
  if (left_.empty()) return;
  Stretch& next = left_.back();
  // Its end, up to where a huge page begins: what comes before it ends there.
  const auto start = reinterpret_cast<std::uintptr_t>(next.file->bytes().data());
  const std::uintptr_t end = start + next.last;
  const std::uintptr_t begin =
      std::max(start + next.first, (end - std::min(end, a_step_)) / kHugePage * kHugePage);
  if (!next.file->move_to_huge_pages(begin - start, next.last)) return left_.clear();
  next.last = begin - start;
  if (next.last <= next.first) left_.pop_back();
}

}  // namespace quire

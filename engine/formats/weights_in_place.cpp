#include "engine/formats/weights_in_place.h"

#include <algorithm>
#include <utility>

#include "base/machine.h"
#include "engine/formats/packed_weights.h"

namespace quire {
namespace {

constexpr std::size_t kAtOnce = std::size_t{16} << 20;  // bytes

}  // namespace

void WeightsInPlace::add(const FileTensor& tensor, const Weight& stored, WeightLayout layout,
                         std::size_t index) {
  if (tensor.file == nullptr || tensor.bytes.empty()) return;
  const std::size_t first = tensor.bytes.data() - tensor.file->bytes().data();
  left_.push_back({tensor.file, first, first + tensor.bytes.size(), stored, layout, index});
}

void WeightsInPlace::begin(Device& device) {
  std::size_t all = 0;
  for (const Matrix& m : left_) all += whole_lines(m.laid_out(nullptr).size_bytes());
  if (all < worth_it_ || static_cast<std::int64_t>(all) > available_memory() / 2) {
    return left_.clear();
  }
  a_step_ = std::max(all / 16 + 1, kAtOnce);
  memory_ = Buffer(device, all);
}

void WeightsInPlace::step(Device& device) {
  const std::unique_lock only(busy_, std::try_to_lock);
  if (!only) return;
  if (!std::exchange(begun_, true)) begin(device);
  for (std::size_t done = 0; done < a_step_ && !left_.empty(); left_.pop_back()) {
    done += lay_out(device, left_.back());
  }
}

std::size_t WeightsInPlace::lay_out(Device& device, const Matrix& m) {
  void* const to = static_cast<std::byte*>(memory_.data()) + used_;
  const Weight laid_out = m.laid_out(to);
  const std::size_t panel = laid_out.panel_elements() * size_of(laid_out.dtype());
  const std::int64_t panels = (laid_out.out() + kPanelColumns - 1) / kPanelColumns;
  const std::int64_t at_once = std::max<std::int64_t>(kAtOnce / panel, 1);
  const std::size_t row = m.stored.in() * size_of(m.stored.dtype());
  for (std::int64_t i = 0; i < panels; i += at_once) {
    device.lay_out(m.stored, m.layout, i, std::min(at_once, panels - i), to);
    // The head is a third of all, and would take memory twice until it is done.
    if (m.stored.layout == WeightLayout::out_in) {
      m.file->let_go(m.first, m.first + std::min(i + at_once, panels - 1) * kPanelColumns * row);
    }
  }
  laid_out_->put(m.index, m.layout, to);
  m.file->let_go(m.first, m.last);
  const std::size_t bytes = whole_lines(laid_out.size_bytes());
  used_ += bytes;
  return bytes;
}

}  // namespace quire

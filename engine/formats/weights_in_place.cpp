#include "engine/formats/weights_in_place.h"

#include <algorithm>
#include <utility>

#include "base/machine.h"
#include "engine/formats/packed_weights.h"

namespace quire {

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
  a_step_ = std::max(all / 16 + 1, std::size_t{16} << 20);
  memory_ = Buffer(device, all);
}

void WeightsInPlace::step(Device& device) {
  const std::unique_lock only(busy_, std::try_to_lock);
  if (!only) return;
  if (!std::exchange(begun_, true)) begin(device);
  for (std::size_t done = 0; done < a_step_ && !left_.empty();) {
    Matrix& next = left_.back();
    void* const to = static_cast<std::byte*>(memory_.data()) + used_;
    const Weight laid_out = next.laid_out(to);
    const std::size_t panel = laid_out.panel_elements() * size_of(laid_out.dtype());
    const std::int64_t panels = (laid_out.out() + kPanelColumns - 1) / kPanelColumns;
    const auto count = std::min(panels - next.panels_done,
                                static_cast<std::int64_t>((a_step_ - done + panel - 1) / panel));
    device.lay_out(next.stored, next.layout, next.panels_done, count, to);
    done += count * panel;
    next.panels_done += count;
    if (next.panels_done < panels) continue;
    laid_out_->put(next.index, next.layout, to);
    next.file->let_go(next.first, next.last);
    used_ += whole_lines(laid_out.size_bytes());
    left_.pop_back();
  }
}

}  // namespace quire

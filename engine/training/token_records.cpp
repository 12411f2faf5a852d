#include "engine/training/token_records.h"

#include <algorithm>

#include "kernels/ops.h"

namespace quire {
namespace {

constexpr std::uint16_t kIgnored16 = 0xFFFF;

std::int64_t size_of(const TokenStream::Part& part) {
  return std::visit([](auto ids) { return std::ssize(ids); }, part);
}

}  // namespace

TokenStream::TokenStream(const std::vector<Part>& parts) {
  std::vector<Placed> placed;
  placed.reserve(parts.size());
  for (const Part& part : parts) {
    if (size_of(part) == 0) continue;
    placed.push_back({size_, part});
    size_ += size_of(part);
  }
  parts_ = std::make_shared<const std::vector<Placed>>(std::move(placed));
}

void TokenStream::copy(std::int64_t begin, std::span<std::int32_t> out) const {
  if (out.empty()) return;
  auto at = std::upper_bound(parts_->begin(), parts_->end(), begin,
                             [](std::int64_t place, const Placed& p) { return place < p.begin; });
  for (--at; !out.empty(); ++at) {
    const auto skipped = static_cast<std::size_t>(begin - at->begin);
    const std::size_t count =
        std::min(out.size(), static_cast<std::size_t>(size_of(at->part)) - skipped);
    if (const auto* narrow = std::get_if<std::span<const std::uint16_t>>(&at->part)) {
      const std::uint16_t* ids = narrow->data() + skipped;
      for (std::size_t i = 0; i < count; ++i) {
        out[i] = ids[i] == kIgnored16 ? kIgnoredTarget : ids[i];
      }
    } else {
      const auto& wide = std::get<std::span<const std::int32_t>>(at->part);
      std::copy_n(wide.begin() + static_cast<std::ptrdiff_t>(skipped), count, out.begin());
    }
    out = out.subspan(count);
    begin += static_cast<std::int64_t>(count);
  }
}

TokenView::TokenView(const TokenRecords& records)
    : ids({std::span<const std::int32_t>(records.ids)}),
      labels({std::span<const std::int32_t>(records.labels)}),
      offsets(records.offsets) {}

}  // namespace quire

#include "tokens/view.h"

#include <algorithm>

namespace quire {
namespace {

std::int64_t size_of(const TokenStream::Part& part) {
  if (const auto* spilled = std::get_if<SpilledIds>(&part)) return spilled->count;
  if (const auto* narrow = std::get_if<std::span<const std::uint16_t>>(&part)) {
    return std::ssize(*narrow);
  }
  return std::ssize(std::get<std::span<const std::int32_t>>(part));
}

void widen(std::span<const std::uint16_t> ids, std::span<std::int32_t> out) {
  for (std::size_t i = 0; i < ids.size(); ++i) {
    out[i] = ids[i] == kIgnored16 ? kIgnoredTarget : ids[i];
  }
}

void read(const SpilledIds& from, std::size_t first, std::span<std::int32_t> out) {
  if (from.bytes_per_id == 4) {
    from.ids->read_values(first, out);
    return;
  }
  std::vector<std::uint16_t> narrow(out.size());
  from.ids->read_values(first, std::span(narrow));
  widen(narrow, out);
}

}  // namespace

RecordOffsets::RecordOffsets(const std::vector<std::span<const std::int64_t>>& parts) {
  std::vector<Part> placed;
  std::int64_t ids = 0;
  for (std::span<const std::int64_t> offsets : parts) {
    const std::int64_t end = offsets.empty() ? 0 : offsets.back();
    if (size_ > 0 && !offsets.empty()) offsets = offsets.subspan(1);  // where the part before ended
    if (offsets.empty()) continue;
    placed.push_back({size_, ids, offsets});
    size_ += std::ssize(offsets);
    ids += end;
  }
  parts_ = std::make_shared<const std::vector<Part>>(std::move(placed));
}

RecordOffsets::RecordOffsets(const ByteSpill& offsets)
    : spilled_(&offsets), size_(static_cast<std::int64_t>(offsets.size() / sizeof(std::int64_t))) {}

std::int64_t RecordOffsets::operator[](std::int64_t i) const {
  std::int64_t offset = 0;
  copy(i, {&offset, 1});
  return offset;
}

void RecordOffsets::copy(std::int64_t begin, std::span<std::int64_t> out) const {
  if (spilled_ != nullptr) {
    spilled_->read_values(static_cast<std::size_t>(begin), out);
    return;
  }
  auto at = std::ranges::upper_bound(*parts_, begin, {}, &Part::first);
  for (--at; !out.empty(); ++at) {
    const auto skipped = static_cast<std::size_t>(begin - at->first);
    const auto offsets =
        at->offsets.subspan(skipped, std::min(out.size(), at->offsets.size() - skipped));
    std::transform(offsets.begin(), offsets.end(), out.begin(),
                   [ids = at->ids](std::int64_t offset) { return ids + offset; });
    out = out.subspan(offsets.size());
    begin += std::ssize(offsets);
  }
}

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

TokenStream TokenStream::selection(std::shared_ptr<const std::vector<Run>> runs,
                                   std::int64_t size) const {
  TokenStream selected = *this;
  selected.runs_ = std::move(runs);
  selected.size_ = size;
  return selected;
}

void TokenStream::copy(std::int64_t begin, std::span<std::int32_t> out) const {
  if (!runs_) {
    copy_parts(begin, out);
    return;
  }
  if (out.empty()) return;
  auto run = std::ranges::upper_bound(*runs_, begin, {}, &Run::begin);
  while (!out.empty()) {
    const std::int64_t end = run == runs_->end() ? size_ : run->begin;
    const Run& from = *std::prev(run);
    const std::size_t count = std::min(out.size(), static_cast<std::size_t>(end - begin));
    copy_parts(from.source + begin - from.begin, out.first(count));
    out = out.subspan(count);
    begin += static_cast<std::int64_t>(count);
    if (!out.empty()) ++run;
  }
}

void TokenStream::copy_parts(std::int64_t begin, std::span<std::int32_t> out) const {
  if (out.empty()) return;
  auto at = std::ranges::upper_bound(*parts_, begin, {}, &Placed::begin);
  for (--at; !out.empty(); ++at) {
    const auto skipped = static_cast<std::size_t>(begin - at->begin);
    const std::size_t count =
        std::min(out.size(), static_cast<std::size_t>(size_of(at->part)) - skipped);
    if (const auto* spilled = std::get_if<SpilledIds>(&at->part)) {
      read(*spilled, skipped, out.first(count));
    } else if (const auto* narrow = std::get_if<std::span<const std::uint16_t>>(&at->part)) {
      widen(narrow->subspan(skipped, count), out);
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

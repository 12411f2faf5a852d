#include "tokens/view.h"

namespace quire {

template <class T>
NumberStream<T>::Part::Part(std::span<const T> numbers)
    : Part(std::ssize(numbers), [numbers](std::int64_t first, std::span<T> out) {
        std::copy_n(numbers.begin() + first, out.size(), out.begin());
      }) {}

template <class T>
NumberStream<T>::Part::Part(std::span<const std::uint16_t> ids)
    : Part(std::ssize(ids), [ids](std::int64_t first, std::span<T> out) {
        widen(ids.subspan(first, out.size()), out);
      }) {}

template <class T>
NumberStream<T>::NumberStream(const std::vector<Part>& parts) {
  std::vector<Placed> placed;
  placed.reserve(parts.size());
  for (const Part& part : parts) {
    if (part.size == 0) continue;
    placed.push_back({size_, part});
    size_ += part.size;
  }
  parts_ = std::make_shared<const std::vector<Placed>>(std::move(placed));
}

template <class T>
void NumberStream<T>::copy(std::int64_t begin, std::span<T> out) const {
  if (out.empty()) return;
  auto at = std::ranges::upper_bound(*parts_, begin, {}, &Placed::begin);
  for (--at; !out.empty(); ++at) {
    const std::int64_t left = at->begin + at->part.size - begin;
    const std::span<T> here = out.first(std::min(out.size(), static_cast<std::size_t>(left)));
    at->part.read(begin - at->begin, here);
    out = out.subspan(here.size());
    begin += std::ssize(here);
  }
}

template class NumberStream<std::int32_t>;
template class NumberStream<std::int64_t>;

TokenStream TokenStream::selection(std::shared_ptr<const std::vector<Run>> runs,
                                   std::int64_t size) const {
  const auto read = [whole = *this, runs = std::move(runs), size](std::int64_t begin,
                                                                  std::span<std::int32_t> out) {
    auto next = std::ranges::upper_bound(*runs, begin, {}, &Run::begin);
    for (; !out.empty(); ++next) {
      const Run& run = *std::prev(next);
      const std::int64_t left = (next == runs->end() ? size : next->begin) - begin;
      const auto here = out.first(std::min(out.size(), static_cast<std::size_t>(left)));
      whole.copy(run.source + begin - run.begin, here);
      out = out.subspan(here.size());
      begin += std::ssize(here);
    }
  };
  return TokenStream({Part(size, read)});
}

RecordOffsets::RecordOffsets(const std::vector<std::span<const std::int64_t>>& parts)
    : NumberStream([&] {
        std::vector<Part> placed;
        std::int64_t ids = 0;  // of the parts before
        for (std::span<const std::int64_t> offsets : parts) {
          if (offsets.empty()) continue;
          const std::int64_t end = offsets.back();
          if (!placed.empty()) offsets = offsets.subspan(1);  // where the part before ended
          placed.emplace_back(
              std::ssize(offsets), [=](std::int64_t first, std::span<std::int64_t> out) {
                std::transform(offsets.begin() + first, offsets.begin() + first + std::ssize(out),
                               out.begin(), [ids](std::int64_t offset) { return ids + offset; });
              });
          ids += end;
        }
        return placed;
      }()) {}

RecordOffsets::RecordOffsets(const ByteSpill& offsets)
    : NumberStream({Part(static_cast<std::int64_t>(offsets.size() / sizeof(std::int64_t)),
                         [&offsets](std::int64_t first, std::span<std::int64_t> out) {
                           offsets.read_values(first, out);
                         })}) {}

std::int64_t RecordOffsets::operator[](std::int64_t i) const {
  std::int64_t offset = 0;
  copy(i, {&offset, 1});
  return offset;
}

TokenView::TokenView(const TokenRecords& records)
    : ids({std::span<const std::int32_t>(records.ids)}),
      labels({std::span<const std::int32_t>(records.labels)}),
      offsets(records.offsets) {}

}  // namespace quire

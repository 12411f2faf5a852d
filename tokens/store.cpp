#include "tokens/store.h"

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

namespace quire {
namespace {

TokenStream::Part spilled(const ByteSpill& ids, std::int64_t count, int bytes_per_id) {
  return {count, [&ids, bytes_per_id](std::int64_t begin, std::span<std::int32_t> out) {
            if (bytes_per_id == 4) return ids.read_values(begin, out);
            std::vector<std::uint16_t> narrow(out.size());
            ids.read_values(begin, std::span(narrow));
            widen(std::span<const std::uint16_t>(narrow), out);
          }};
}

}  // namespace

void add_ids(ByteSpill& to, std::span<const std::int32_t> ids, bool narrow) {
  if (!narrow) return to.add_values(ids);
  std::array<std::uint16_t, 4096> values;
  while (!ids.empty()) {
    const std::span<const std::int32_t> some = ids.first(std::min(ids.size(), values.size()));
    std::ranges::transform(some, values.begin(), [](std::int32_t id) {
      return id == kIgnoredTarget ? kIgnored16 : static_cast<std::uint16_t>(id);
    });
    to.add_values(std::span<const std::uint16_t>(values).first(some.size()));
    ids = ids.subspan(some.size());
  }
}

TokenStore::TokenStore(int vocab_size)
    : narrow_(vocab_size > 0 && vocab_size <= kNarrowVocabulary) {
  offset_bytes_.add_value(std::int64_t{0});
}

void TokenStore::add(const TokenRecords& part) {
  const std::span<const std::int32_t> ids(part.ids);
  add_ids(id_bytes_, ids, narrow_);
  if (!part.labels.empty() && !labels_from_) labels_from_ = ids_;
  if (labels_from_) {
    label_bytes_.add_values(part.labels.empty() ? ids : std::span<const std::int32_t>(part.labels));
  }
  for (const std::int64_t offset : std::span(part.offsets).subspan(1)) {
    offset_bytes_.add_value(ids_ + offset);
  }
  ids_ += std::ssize(ids);
}

TokenView view_of(std::shared_ptr<const TokenStore> store) {
  const TokenStore& s = *store;
  TokenView view;
  view.ids = TokenStream({spilled(s.id_bytes_, s.ids_, s.bytes_per_id())});
  if (s.labels_from_) {
    view.labels = TokenStream({spilled(s.id_bytes_, *s.labels_from_, s.bytes_per_id()),
                               spilled(s.label_bytes_, s.ids_ - *s.labels_from_, 4)});
  }
  view.offsets = RecordOffsets(s.offset_bytes_);
  view.owner = std::move(store);
  return view;
}

}  // namespace quire

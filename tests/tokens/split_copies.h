// The two parts of records as vectors.
#pragma once

#include <utility>

#include "tokens/split.h"

namespace quire::test {

/// What a view shows.
inline TokenRecords records_of(const TokenView& view) {
  const auto all = [](const TokenStream& stream) {
    std::vector<std::int32_t> ids(static_cast<std::size_t>(stream.size()));
    stream.copy(0, ids);
    return ids;
  };
  TokenRecords records{.ids = all(view.ids), .labels = all(view.labels), .offsets = {}};
  view.offsets.for_each([&](std::int64_t offset) { records.offsets.push_back(offset); });
  return records;
}

/// Copies of what split() shows.
inline void split(const TokenRecords& records, double share, std::uint64_t seed,
                  TokenRecords& train, TokenRecords& validation,
                  OnlyRecord only = OnlyRecord::cut) {
  const TrainData parts = quire::split(TokenView(records), share, seed, only);
  TokenRecords kept = records_of(parts.train), held_out = records_of(parts.validation);
  train = std::move(kept);  // either of the results may be `records` itself
  validation = std::move(held_out);
}

/// The same without views, from what is held out alone.
inline void split_copies(const TokenRecords& records, double share, std::uint64_t seed,
                         TokenRecords& train, TokenRecords& validation,
                         OnlyRecord only = OnlyRecord::cut) {
  const HeldOut held = hold_out(records.offsets, share, seed, only);
  train = validation = {};
  const auto append = [&](TokenRecords& to, std::int64_t first, std::int64_t last) {
    const auto copy = [&](const std::vector<std::int32_t>& from, std::vector<std::int32_t>& out) {
      out.insert(out.end(), from.begin() + first, from.begin() + last);
    };
    copy(records.ids, to.ids);
    if (!records.labels.empty()) copy(records.labels, to.labels);
    to.offsets.push_back(static_cast<std::int64_t>(to.ids.size()));
  };
  for (std::size_t r = 0; r < static_cast<std::size_t>(records.size()); ++r) {
    const std::int64_t cut = r == held.cut_record ? held.cut : 0;
    const std::int64_t first = records.offsets[r] + cut;
    if (cut > 0) append(validation, records.offsets[r], first);
    append(held.records[r] ? validation : train, first, records.offsets[r + 1]);
  }
}

}  // namespace quire::test

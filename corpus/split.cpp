#include <cmath>
#include <random>

#include "base/error.h"
#include "corpus/records.h"

namespace quire {
namespace {

TokenizedCorpus copy(const TokenizedCorpus& from, const std::vector<TokenRange>& ranges) {
  TokenizedCorpus to;
  for (const TokenRange& range : ranges) {
    const auto append = [&](const std::vector<std::int32_t>& values,
                            std::vector<std::int32_t>& out) {
      out.insert(out.end(), values.begin() + range.first, values.begin() + range.last);
    };
    append(from.ids, to.ids);
    if (!from.labels.empty()) append(from.labels, to.labels);
    to.offsets.push_back(static_cast<std::int64_t>(to.ids.size()));
  }
  return to;
}

}  // namespace

SplitRanges split(std::span<const std::int64_t> offsets, double validation_share,
                  std::uint64_t seed) {
  if (!(validation_share >= 0.0 && validation_share < 1.0)) {
    throw Error(Fault::usage, "--validation-split is " + std::to_string(validation_share),
                {"a share of the data: at least 0, less than 1"}, "--validation-split 0.05");
  }
  SplitRanges ranges;
  const std::int64_t records = std::ssize(offsets) - 1;
  const std::int64_t chosen = std::llround(static_cast<double>(records) * validation_share);
  if (validation_share == 0.0 || (chosen > 0 && chosen < records)) {
    // The first `chosen` of a Fisher-Yates shuffle. mt19937_64 is the same everywhere, unlike the
    // standard's distributions and std::shuffle; the modulo's bias is below 2^-30.
    std::vector<std::int64_t> order(static_cast<std::size_t>(records));
    for (std::size_t i = 0; i < order.size(); ++i) order[i] = static_cast<std::int64_t>(i);
    std::mt19937_64 random(seed);
    std::vector<bool> held(order.size());
    for (std::size_t i = 0; i < static_cast<std::size_t>(chosen); ++i) {
      std::swap(order[i], order[i + random() % (order.size() - i)]);
      held[static_cast<std::size_t>(order[i])] = true;
    }
    for (std::size_t r = 0; r < order.size(); ++r) {
      (held[r] ? ranges.validation : ranges.train).push_back({offsets[r], offsets[r + 1]});
    }
  } else {
    // Too few records to hold one out: each gives up its end.
    for (std::size_t r = 0; r < static_cast<std::size_t>(records); ++r) {
      const std::int64_t first = offsets[r], last = offsets[r + 1];
      const std::int64_t middle =
          last - std::llround(static_cast<double>(last - first) * validation_share);
      if (first < middle) ranges.train.push_back({first, middle});
      if (middle < last) ranges.validation.push_back({middle, last});
    }
  }
  return ranges;
}

void split(const TokenizedCorpus& corpus, double validation_share, std::uint64_t seed,
           TokenizedCorpus& train, TokenizedCorpus& validation) {
  const SplitRanges ranges = split(corpus.offsets, validation_share, seed);
  TokenizedCorpus kept = copy(corpus, ranges.train);  // either may be `corpus` itself
  TokenizedCorpus held_out = copy(corpus, ranges.validation);
  train = std::move(kept);
  validation = std::move(held_out);
}

}  // namespace quire

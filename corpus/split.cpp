#include <algorithm>
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

// `chosen` of all records: the first of a Fisher-Yates shuffle. mt19937_64 is the same everywhere,
// unlike the standard's distributions and std::shuffle; the modulo's bias is below 2^-30.
std::vector<bool> choose(std::int64_t records, std::int64_t chosen, std::uint64_t seed) {
  std::vector<std::int64_t> order(static_cast<std::size_t>(records));
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = static_cast<std::int64_t>(i);
  std::mt19937_64 random(seed);
  std::vector<bool> held(order.size());
  for (std::size_t i = 0; i < static_cast<std::size_t>(chosen); ++i) {
    std::swap(order[i], order[i + random() % (order.size() - i)]);
    held[static_cast<std::size_t>(order[i])] = true;
  }
  return held;
}

// One record where the share asks for less than one: never more than half of all tokens, which a
// small folder with one large book would lose, and of 2 tokens or more where there is such a one.
std::vector<bool> choose_one(std::span<const std::int64_t> offsets, std::uint64_t seed) {
  const auto length = [&](std::size_t r) { return offsets[r + 1] - offsets[r]; };
  std::vector<std::size_t> small, scored;
  for (std::size_t r = 0; r + 1 < offsets.size(); ++r) {
    if (2 * length(r) > offsets.back() - offsets.front()) continue;
    small.push_back(r);
    if (length(r) >= 2) scored.push_back(r);
  }
  const std::vector<std::size_t>& fit = scored.empty() ? small : scored;
  std::vector<bool> held(offsets.size() - 1);
  held[fit[std::mt19937_64(seed)() % fit.size()]] = true;
  return held;
}

// Of the only record its beginning is held out: what is left to train on is in one piece and has
// the record's end. Nothing, where either part would have no token to predict.
void cut(TokenRange record, double share, SplitRanges& ranges) {
  const std::int64_t tokens = record.last - record.first;
  std::int64_t held = std::llround(static_cast<double>(tokens) * share);
  if (held < 2 || tokens - held < 2) held = 0;
  if (held > 0) ranges.validation.push_back({record.first, record.first + held});
  ranges.train.push_back({record.first + held, record.last});
}

}  // namespace

SplitRanges split(std::span<const std::int64_t> offsets, double validation_share,
                  std::uint64_t seed, OnlyRecord only) {
  if (!(validation_share >= 0.0 && validation_share < 1.0)) {
    throw Error(Fault::usage, "--validation-split is " + std::to_string(validation_share),
                {"a share of the data: at least 0, less than 1"}, "--validation-split 0.05");
  }
  SplitRanges ranges;
  const std::int64_t records = std::ssize(offsets) - 1;
  if (records == 1 && only == OnlyRecord::cut) {
    cut({offsets[0], offsets[1]}, validation_share, ranges);
    return ranges;
  }
  const std::int64_t chosen =
      std::min(std::llround(static_cast<double>(records) * validation_share),
               static_cast<long long>(records) - 1);
  const std::vector<bool> held = chosen < 1 && validation_share > 0 && records > 1
                                     ? choose_one(offsets, seed)
                                     : choose(records, std::max<std::int64_t>(chosen, 0), seed);
  for (std::size_t r = 0; r < held.size(); ++r) {
    (held[r] ? ranges.validation : ranges.train).push_back({offsets[r], offsets[r + 1]});
  }
  return ranges;
}

void split(const TokenizedCorpus& corpus, double validation_share, std::uint64_t seed,
           TokenizedCorpus& train, TokenizedCorpus& validation, OnlyRecord only) {
  const SplitRanges ranges = split(corpus.offsets, validation_share, seed, only);
  TokenizedCorpus kept = copy(corpus, ranges.train);  // either may be `corpus` itself
  TokenizedCorpus held_out = copy(corpus, ranges.validation);
  train = std::move(kept);
  validation = std::move(held_out);
}

}  // namespace quire

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

#include "base/error.h"
#include "corpus/records.h"

namespace quire {
namespace {

// `chosen` of all records: the first of a Fisher-Yates shuffle. mt19937_64 is the same everywhere,
// unlike the standard's distributions and std::shuffle; the modulo's bias is below 2^-30.
template <class Number>
std::vector<bool> choose(std::int64_t records, std::int64_t chosen, std::uint64_t seed) {
  std::vector<bool> held(static_cast<std::size_t>(records));
  if (chosen == 0) return held;
  std::vector<Number> order(held.size());
  std::iota(order.begin(), order.end(), Number{0});
  std::mt19937_64 random(seed);
  for (std::size_t i = 0; i < static_cast<std::size_t>(chosen); ++i) {
    std::swap(order[i], order[i + random() % (order.size() - i)]);
    held[static_cast<std::size_t>(order[i])] = true;
  }
  return held;
}

// One record where the share asks for less than one: never more than half of all tokens, which a
// small folder with one large book would lose, and of 2 tokens or more where there is such a one.
std::vector<bool> choose_one(std::int64_t records, std::int64_t tokens,
                             const ForEachLength& lengths, std::uint64_t seed) {
  std::uint64_t small = 0, scored = 0;
  lengths([&](std::int64_t length) {
    small += 2 * length <= tokens;
    scored += 2 * length <= tokens && length >= 2;
  });
  const std::int64_t least = scored > 0 ? 2 : 0;
  const std::uint64_t chosen = std::mt19937_64(seed)() % (scored > 0 ? scored : small);
  std::vector<bool> held(static_cast<std::size_t>(records));
  std::size_t r = 0;
  std::uint64_t fit = 0;
  lengths([&](std::int64_t length) {
    if (2 * length <= tokens && length >= least) held[r] = fit++ == chosen;
    ++r;
  });
  return held;
}

// Of the only record its beginning is held out: what is left to train on is in one piece and has
// the record's end. Nothing, where either part would have no token to predict.
std::int64_t cut(std::int64_t tokens, double share) {
  const std::int64_t held = std::llround(static_cast<double>(tokens) * share);
  return held < 2 || tokens - held < 2 ? 0 : held;
}

}  // namespace

HeldOut hold_out(std::int64_t records, std::int64_t tokens, const ForEachLength& lengths,
                 double validation_share, std::uint64_t seed, OnlyRecord only) {
  if (!(validation_share >= 0.0 && validation_share < 1.0)) {
    throw Error(Fault::usage, "--validation-split is " + std::to_string(validation_share),
                {"a share of the data: at least 0, less than 1"}, "--validation-split 0.05");
  }
  if (records == 1 && only == OnlyRecord::cut) {
    return {.records = {false}, .cut = cut(tokens, validation_share)};
  }
  const std::int64_t chosen =
      std::min(std::llround(static_cast<double>(records) * validation_share),
               static_cast<long long>(records) - 1);
  if (chosen < 1 && validation_share > 0 && records > 1) {
    return {.records = choose_one(records, tokens, lengths, seed)};
  }
  const auto choose_some =
      records < std::int64_t{1} << 32 ? choose<std::uint32_t> : choose<std::int64_t>;
  return {.records = choose_some(records, std::max<std::int64_t>(chosen, 0), seed)};
}

void split(const TokenizedCorpus& corpus, double validation_share, std::uint64_t seed,
           TokenizedCorpus& train, TokenizedCorpus& validation, OnlyRecord only) {
  const auto length = [&](std::size_t r) { return corpus.offsets[r + 1] - corpus.offsets[r]; };
  const auto records = static_cast<std::size_t>(corpus.size());
  const ForEachLength lengths = [&](const std::function<void(std::int64_t)>& take) {
    for (std::size_t r = 0; r < records; ++r) take(length(r));
  };
  const HeldOut held =
      hold_out(corpus.size(), corpus.offsets.back(), lengths, validation_share, seed, only);
  TokenizedCorpus kept, held_out;  // either of the results may be `corpus` itself
  const auto append = [&](TokenizedCorpus& to, std::int64_t first, std::int64_t last) {
    const auto copy = [&](const std::vector<std::int32_t>& from, std::vector<std::int32_t>& out) {
      out.insert(out.end(), from.begin() + first, from.begin() + last);
    };
    copy(corpus.ids, to.ids);
    if (!corpus.labels.empty()) copy(corpus.labels, to.labels);
    to.offsets.push_back(static_cast<std::int64_t>(to.ids.size()));
  };
  if (held.cut > 0) append(held_out, 0, held.cut);
  for (std::size_t r = 0; r < records; ++r) {
    append(held.records[r] ? held_out : kept, corpus.offsets[r] + held.cut, corpus.offsets[r + 1]);
  }
  train = std::move(kept);
  validation = std::move(held_out);
}

}  // namespace quire

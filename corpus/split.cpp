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

// Of records that have more than the share of all tokens, less: the largest chosen one is cut to what
// is wanted, or left out while the others have that.
void trim(HeldOut& held, std::int64_t tokens, const ForEachLength& lengths, double share) {
  constexpr std::int64_t kEnough = 1024;
  const std::int64_t wanted = std::llround(static_cast<double>(tokens) * share);
  if (wanted < kEnough) return;
  struct Chosen {
    std::int64_t length;
    std::size_t record;
  };
  std::vector<Chosen> chosen;
  std::int64_t held_tokens = 0;
  std::size_t r = 0;
  lengths([&](std::int64_t length) {
    if (held.records[r]) chosen.push_back({length, r});
    if (held.records[r++]) held_tokens += length;
  });
  std::stable_sort(chosen.begin(), chosen.end(),
                   [](const Chosen& a, const Chosen& b) { return a.length > b.length; });
  for (const Chosen& largest : chosen) {
    if (2 * held_tokens <= 3 * wanted) return;
    held_tokens -= largest.length;
    held.records[largest.record] = false;
    if (held_tokens >= wanted - 1) continue;  // a part of one token has nothing to score
    held.cut = wanted - held_tokens;
    held.cut_record = largest.record;
    return;
  }
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
  HeldOut held;
  if (chosen < 1 && validation_share > 0 && records > 1) {
    held.records = choose_one(records, tokens, lengths, seed);
  } else {
    const auto choose_some =
        records < std::int64_t{1} << 32 ? choose<std::uint32_t> : choose<std::int64_t>;
    held.records = choose_some(records, std::max<std::int64_t>(chosen, 0), seed);
  }
  if (only == OnlyRecord::cut && validation_share > 0) {
    trim(held, tokens, lengths, validation_share);
  }
  return held;
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
  for (std::size_t r = 0; r < records; ++r) {
    const std::int64_t cut = r == held.cut_record ? held.cut : 0;
    const std::int64_t first = corpus.offsets[r] + cut;
    if (cut > 0) append(held_out, corpus.offsets[r], first);
    append(held.records[r] ? held_out : kept, first, corpus.offsets[r + 1]);
  }
  train = std::move(kept);
  validation = std::move(held_out);
}

}  // namespace quire

#include "tokens/split.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <utility>

#include "base/error.h"

namespace quire {
namespace {

// `chosen` of all records: the first of a Fisher-Yates shuffle. mt19937_64 is the same everywhere,
// unlike the standard's distributions and std::shuffle; the modulo's bias is below 2^-30.
template <class Number>
std::vector<bool> choose(std::int64_t records, std::int64_t chosen, std::uint64_t seed) {
  std::vector<bool> held(records);
  if (chosen == 0) return held;
  std::vector<Number> order(held.size());
  std::iota(order.begin(), order.end(), Number{0});
  std::mt19937_64 random(seed);
  for (std::int64_t i = 0; i < chosen; ++i) {
    std::swap(order[i], order[i + random() % (order.size() - i)]);
    held[order[i]] = true;
  }
  return held;
}

// One record where the share asks for less than one: never more than half of all tokens, which a
// small folder with one large book would lose, and of 2 tokens or more where there is such a one.
std::vector<bool> choose_one(const RecordOffsets& records, std::uint64_t seed) {
  const std::int64_t tokens = records.back();
  std::uint64_t small = 0, scored = 0;
  records.for_each_record([&](std::int64_t begin, std::int64_t end) {
    const std::int64_t length = end - begin;
    small += 2 * length <= tokens;
    scored += 2 * length <= tokens && length >= 2;
  });
  const std::int64_t least = scored > 0 ? 2 : 0;
  const std::uint64_t chosen = std::mt19937_64(seed)() % (scored > 0 ? scored : small);
  std::vector<bool> held(records.records());
  std::size_t r = 0;
  std::uint64_t fit = 0;
  records.for_each_record([&](std::int64_t begin, std::int64_t end) {
    const std::int64_t length = end - begin;
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

// Of records that have more than the share of all tokens, less: the largest chosen one is cut
// to what is wanted, or left out while the others have that.
void trim(HeldOut& held, const RecordOffsets& records, double share) {
  constexpr std::int64_t kEnough = 1024;
  const std::int64_t wanted = std::llround(static_cast<double>(records.back()) * share);
  if (wanted < kEnough) return;
  struct Chosen {
    std::int64_t length;
    std::size_t record;
  };
  std::vector<Chosen> chosen;
  std::int64_t held_tokens = 0;
  std::size_t r = 0;
  records.for_each_record([&](std::int64_t begin, std::int64_t end) {
    if (held.records[r]) chosen.push_back({end - begin, r});
    if (held.records[r++]) held_tokens += end - begin;
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

/// One of the two parts, as it is put together.
class Side {
 public:
  Side() { offsets_->add_value(size_); }
  /// Ids first … last - 1 of the whole are a record.
  void add(std::int64_t first, std::int64_t last) {
    if (runs_->empty() || end_ != first) runs_->push_back({size_, first});
    end_ = last;
    size_ += last - first;
    offsets_->add_value(size_);
  }
  TokenView view(const TokenView& whole) && {
    struct Kept {
      std::shared_ptr<const void> owner;
      std::shared_ptr<const ByteSpill> offsets;
    };
    runs_->shrink_to_fit();
    TokenView view;
    view.ids = whole.ids.selection(runs_, size_);
    if (whole.labels.size() > 0) view.labels = whole.labels.selection(runs_, size_);
    view.offsets = RecordOffsets(*offsets_);
    view.owner = std::make_shared<const Kept>(Kept{whole.owner, offsets_});
    return view;
  }

 private:
  std::int64_t size_ = 0, end_ = 0;
  std::shared_ptr<std::vector<TokenStream::Run>> runs_ =
      std::make_shared<std::vector<TokenStream::Run>>();
  std::shared_ptr<ByteSpill> offsets_ = std::make_shared<ByteSpill>();
};

}  // namespace

HeldOut hold_out(const RecordOffsets& records, double validation_share, std::uint64_t seed,
                 OnlyRecord only) {
  if (!(validation_share >= 0.0 && validation_share < 1.0)) {
    throw Error(Fault::usage, "`validation_share` is "_named + std::to_string(validation_share),
                {"a share of the data: at least 0, less than 1"}, "`validation_share` 0.05"_named);
  }
  const std::int64_t count = records.records();
  if (count == 1 && only == OnlyRecord::cut) {
    return {.records = {false}, .cut = cut(records.back(), validation_share)};
  }
  const std::int64_t chosen = std::min(std::llround(static_cast<double>(count) * validation_share),
                                       static_cast<long long>(count) - 1);
  HeldOut held;
  if (chosen < 1 && validation_share > 0 && count > 1) {
    held.records = choose_one(records, seed);
  } else {
    const auto choose_some =
        count < std::int64_t{1} << 32 ? choose<std::uint32_t> : choose<std::int64_t>;
    held.records = choose_some(count, std::max<std::int64_t>(chosen, 0), seed);
  }
  if (only == OnlyRecord::cut && validation_share > 0 && count > 0)
    trim(held, records, validation_share);
  return held;
}

TrainData split(const TokenView& all, double validation_share, std::uint64_t seed,
                OnlyRecord only) {
  HeldOut held = hold_out(all.offsets, validation_share, seed, only);
  Side train, validation;
  std::size_t record = 0;
  all.offsets.for_each_record([&](std::int64_t first, std::int64_t end) {
    if (held.cut > 0 && record == held.cut_record) {
      validation.add(first, first + held.cut);
      first += held.cut;
    }
    (held.records[record++] ? validation : train).add(first, end);
  });
  return {.train = std::move(train).view(all),
          .validation = std::move(validation).view(all),
          .held_out = std::move(held)};
}

}  // namespace quire

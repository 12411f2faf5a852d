#include "cli/token_store.h"

#include <algorithm>
#include <functional>
#include <span>
#include <string_view>
#include <utility>

namespace quire {
namespace {

template <class T>
std::string_view bytes_of(std::span<const T> values) {
  return {reinterpret_cast<const char*>(values.data()), values.size_bytes()};
}

/// All records of a data set.
struct Whole {
  TokenStream ids, labels;
  std::int64_t records = 0;
  std::function<void(const std::function<void(std::int64_t)>&)> lengths;
  std::shared_ptr<const void> owner;
};

/// One of the two parts, as it is put together.
class Side {
 public:
  Side() { add_offset(); }
  /// Ids first … last - 1 of the whole are a record.
  void add(std::int64_t first, std::int64_t last) {
    if (runs_->empty() || end_ != first) runs_->push_back({size_, first});
    end_ = last;
    size_ += last - first;
    add_offset();
  }
  TokenView view(const Whole& whole) && {
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
  void add_offset() { offsets_->add(bytes_of(std::span<const std::int64_t>(&size_, 1))); }

  std::int64_t size_ = 0, end_ = 0;
  std::shared_ptr<std::vector<TokenStream::Run>> runs_ =
      std::make_shared<std::vector<TokenStream::Run>>();
  std::shared_ptr<ByteSpill> offsets_ = std::make_shared<ByteSpill>();
};

TrainData split_whole(const Whole& whole, double validation_share, std::uint64_t seed,
                      OnlyRecord only) {
  const HeldOut held =
      hold_out(whole.records, whole.ids.size(), whole.lengths, validation_share, seed, only);
  Side train, validation;
  std::size_t record = 0;
  std::int64_t first = 0, end = 0;
  whole.lengths([&](std::int64_t length) {
    end += length;
    if (held.cut > 0 && record == held.cut_record) {
      validation.add(first, first + held.cut);
      first += held.cut;
    }
    (held.records[record++] ? validation : train).add(first, end);
    first = end;
  });
  return {.train = std::move(train).view(whole),
          .validation = std::move(validation).view(whole),
          .held_out = held};
}

}  // namespace

void TokenStore::add_offset(std::int64_t offset) {
  offset_bytes_.add(bytes_of(std::span<const std::int64_t>(&offset, 1)));
}

void TokenStore::add(const TokenizedCorpus& part) {
  if (offset_bytes_.size() == 0) add_offset(0);
  const std::span<const std::int32_t> ids(part.ids);
  if (narrow_) {
    narrowed_.assign(ids.begin(), ids.end());
    id_bytes_.add(bytes_of(std::span<const std::uint16_t>(narrowed_)));
  } else {
    id_bytes_.add(bytes_of(ids));
  }
  if (!part.labels.empty() && !labels_from_) labels_from_ = ids_;
  if (labels_from_) {
    label_bytes_.add(
        bytes_of(part.labels.empty() ? ids : std::span<const std::int32_t>(part.labels)));
  }
  for (const std::int64_t offset : std::span(part.offsets).subspan(1)) add_offset(ids_ + offset);
  records_ += part.size();
  ids_ += std::ssize(ids);
}

TokenStream TokenStore::ids() const {
  return TokenStream({SpilledIds{&id_bytes_, 0, ids_, bytes_per_id()}});
}

TokenStream TokenStore::labels() const {
  if (!labels_from_) return {};
  return TokenStream({SpilledIds{&id_bytes_, 0, *labels_from_, bytes_per_id()},
                      SpilledIds{&label_bytes_, 0, ids_ - *labels_from_, 4}});
}

TrainData split_views(const std::shared_ptr<const TokenStore>& store, double validation_share,
                      std::uint64_t seed, OnlyRecord only) {
  const auto lengths = [&store](const std::function<void(std::int64_t)>& take) {
    std::int64_t begin = -1;
    store->offsets().for_each([&](std::int64_t end) {
      if (begin >= 0) take(end - begin);
      begin = end;
    });
  };
  const Whole whole{.ids = store->ids(),
                    .labels = store->labels(),
                    .records = store->records(),
                    .lengths = lengths,
                    .owner = store};
  return split_whole(whole, validation_share, seed, only);
}

TrainData split_views(const std::shared_ptr<const std::vector<TokenShard>>& shards,
                      double validation_share, std::uint64_t seed, OnlyRecord only) {
  std::vector<TokenStream::Part> ids, labels;
  std::int64_t records = 0;
  const auto add = [](std::vector<TokenStream::Part>& to, const ShardIds& from) {
    std::visit([&](auto values) { to.emplace_back(values); }, from);
  };
  const bool labelled = std::any_of(shards->begin(), shards->end(),
                                    [](const TokenShard& shard) { return shard.labels(); });
  for (const TokenShard& shard : *shards) {
    add(ids, shard.ids());
    if (labelled) add(labels, shard.labels().value_or(shard.ids()));
    records += shard.records();
  }
  const auto lengths = [&shards](const std::function<void(std::int64_t)>& take) {
    for (const TokenShard& shard : *shards) {
      const std::span<const std::int64_t> offsets = shard.offsets();
      for (std::size_t r = 1; r < offsets.size(); ++r) take(offsets[r] - offsets[r - 1]);
    }
  };
  const Whole whole{.ids = TokenStream(ids),
                    .labels = labelled ? TokenStream(labels) : TokenStream(),
                    .records = records,
                    .lengths = lengths,
                    .owner = shards};
  return split_whole(whole, validation_share, seed, only);
}

}  // namespace quire

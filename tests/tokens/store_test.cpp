// Token records that memory does not hold are read as those that it does.
#include "tokens/store.h"

#include "base/random.h"
#include "tests/support/catch.h"
#include "tests/tokens/split_copies.h"
#include "tokens/batches.h"

using namespace quire;

namespace {

/// 700,000 records of 0 to 7 ids, so that 16-bit ids, labels and the places of records go beyond
/// the 4 MiB that a spill holds in memory.
TokenRecords large_corpus(std::size_t batch) {
  constexpr std::uint64_t kRecords = 70'000;
  TokenRecords corpus;
  for (std::uint64_t r = 0; r < kRecords; ++r) {
    const std::uint64_t bits = random_bits({5, batch}, r);
    for (std::uint64_t i = 0; i < bits % 8; ++i) {
      corpus.ids.push_back(static_cast<std::int32_t>((bits >> 8) * (i + 1) % 60'000));
    }
    corpus.offsets.push_back(std::ssize(corpus.ids));
  }
  return corpus;
}

void append(const std::vector<std::int32_t>& from, std::vector<std::int32_t>& to) {
  to.insert(to.end(), from.begin(), from.end());
}

std::vector<std::int32_t> all_of(const TokenStream& stream) {
  std::vector<std::int32_t> ids;
  stream.for_each([&](std::span<const std::int32_t> stretch, std::int64_t) {
    ids.insert(ids.end(), stretch.begin(), stretch.end());
  });
  return ids;
}

void check_rows(const TokenView& got, const TokenRecords& want, Packing packing) {
  const Rows rows(got, packing, 64), wanted(want, packing, 64);
  REQUIRE(rows.size() == wanted.size());
  CHECK(rows.targets() == wanted.targets());
  for (std::uint64_t i = 0; i < 50; ++i) {
    const auto row =
        static_cast<std::int64_t>(random_bits({6, 1}, i) % static_cast<std::uint64_t>(rows.size()));
    const Batch a = rows.gather({&row, 1}), b = wanted.gather({&row, 1});
    CHECK(a.ids == b.ids);
    CHECK(a.targets == b.targets);
    CHECK(a.positions == b.positions);
  }
}

}  // namespace

TEST_CASE("records beyond what memory holds are split and batched as vectors are") {
  for (const int vocab_size : {60'000, 0}) {
    const auto store = std::make_shared<TokenStore>(vocab_size);
    TokenRecords all;
    for (std::size_t batch = 0; batch < 10; ++batch) {
      TokenRecords part = large_corpus(batch);
      if (batch == 4) {  // from here on there are labels, which were the ids until then
        part.labels = part.ids;
        for (std::size_t i = 0; i < part.labels.size(); i += 3) part.labels[i] = kIgnoredTarget;
        all.labels = all.ids;
      }
      store->add(part);
      if (batch >= 4) append(part.labels.empty() ? part.ids : part.labels, all.labels);
      for (const std::int64_t offset : std::span(part.offsets).subspan(1)) {
        all.offsets.push_back(std::ssize(all.ids) + offset);
      }
      append(part.ids, all.ids);
    }
    const TokenView stored = view_of(store);
    REQUIRE(stored.ids.size() * 2 > 1 << 22);
    CHECK((all_of(stored.ids) == all.ids));
    CHECK((all_of(stored.labels) == all.labels));
    TokenRecords train, validation;
    test::split_copies(all, 0.3, 11, train, validation);
    const TrainData views = split(stored, 0.3, 11);
    CHECK((all_of(views.train.ids) == train.ids));
    CHECK((all_of(views.train.labels) == train.labels));
    CHECK((all_of(views.validation.ids) == validation.ids));
    CHECK((all_of(views.validation.labels) == validation.labels));
    for (const Packing packing : {Packing::stream, Packing::none, Packing::records}) {
      check_rows(views.train, train, packing);
      check_rows(views.validation, validation, packing);
    }
  }
}

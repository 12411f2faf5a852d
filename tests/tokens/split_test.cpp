// A split holds out what it should, and shows the same of vectors, of a store and of shards.
#include "tokens/split.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <memory>
#include <set>

#include "base/error.h"
#include "tests/support/catch.h"
#include "tests/support/data.h"
#include "tests/support/scratch.h"
#include "tests/tokens/split_copies.h"
#include "tokens/shards.h"
#include "tokens/store.h"

using namespace quire;
using namespace quire::test;

namespace fs = std::filesystem;

namespace {

// A corpus of records with so many tokens each; token i of the whole is i.
TokenRecords counted(const std::vector<int>& lengths) {
  TokenRecords corpus;
  for (const int length : lengths) {
    for (int i = 0; i < length; ++i)
      corpus.ids.push_back(static_cast<std::int32_t>(corpus.ids.size()));
    corpus.offsets.push_back(static_cast<std::int64_t>(corpus.ids.size()));
  }
  return corpus;
}

std::vector<std::int32_t> record(const TokenRecords& corpus, std::int64_t index) {
  return {corpus.ids.begin() + corpus.offsets[static_cast<std::size_t>(index)],
          corpus.ids.begin() + corpus.offsets[static_cast<std::size_t>(index) + 1]};
}

/// In pieces of 7 ids, which part records.
std::shared_ptr<const TokenStore> stored_in_pieces(const TokenRecords& corpus, int vocab_size) {
  const auto store = std::make_shared<TokenStore>(vocab_size);
  for (std::int64_t at = 0; at < std::ssize(corpus.ids); at += 7) {
    TokenRecords piece;
    const std::int64_t end = std::min(at + 7, std::ssize(corpus.ids));
    piece.ids.assign(corpus.ids.begin() + at, corpus.ids.begin() + end);
    if (!corpus.labels.empty()) {
      piece.labels.assign(corpus.labels.begin() + at, corpus.labels.begin() + end);
    }
    for (const std::int64_t offset : std::span(corpus.offsets).subspan(1)) {
      if (offset > at - (at == 0) && offset <= end) piece.offsets.push_back(offset - at);
    }
    store->add(piece);
  }
  return store;
}

}  // namespace

TEST_CASE("a split takes whole records, keeps their order, and is the same for the same seed") {
  std::vector<int> lengths(100);
  for (int i = 0; i < 100; ++i) lengths[static_cast<std::size_t>(i)] = 1 + i % 7;
  const TokenRecords corpus = counted(lengths);
  TokenRecords train, validation, train2, validation2;
  split(corpus, 0.1, 42, train, validation);
  CHECK(validation.size() == 10);
  CHECK(train.size() == 90);
  CHECK(std::is_sorted(train.ids.begin(), train.ids.end()));
  CHECK(std::is_sorted(validation.ids.begin(), validation.ids.end()));
  std::set<std::int32_t> all(train.ids.begin(), train.ids.end());
  all.insert(validation.ids.begin(), validation.ids.end());
  CHECK(all.size() == corpus.ids.size());
  std::set<std::vector<std::int32_t>> whole;
  for (std::int64_t r = 0; r < corpus.size(); ++r) whole.insert(record(corpus, r));
  for (std::int64_t r = 0; r < train.size(); ++r) CHECK(whole.contains(record(train, r)));

  split(corpus, 0.1, 42, train2, validation2);
  CHECK(validation2.ids == validation.ids);
  split(corpus, 0.1, 43, train2, validation2);
  CHECK(validation2.ids != validation.ids);
  // Fixed for all time: a resumed run on another machine must hold out the same records.
  std::vector<std::int32_t> firsts;
  for (std::int64_t r = 0; r < validation.size(); ++r) firsts.push_back(record(validation, r)[0]);
  CHECK(firsts == std::vector<std::int32_t>{6, 21, 56, 59, 66, 127, 197, 225, 309, 392});
}

TEST_CASE("a whole record is held out where there are two, however small the share") {
  for (const int records : {2, 3, 8, 49}) {
    for (const double share : {0.001, 0.01, 0.05, 0.9}) {
      for (const std::uint64_t seed : {1u, 2u, 3u}) {
        INFO(records << " records, share " << share << ", seed " << seed);
        const TokenRecords corpus = counted(std::vector<int>(static_cast<std::size_t>(records), 5));
        TokenRecords train, validation;
        split(corpus, share, seed, train, validation);
        CHECK(validation.size() >= 1);
        CHECK(train.size() >= 1);
        CHECK(train.size() + validation.size() == records);
        std::set<std::int32_t> ends;  // ids count from 0: those that end a record are 4, 9, …
        for (const TokenRecords* part : {&train, &validation}) {
          for (std::int64_t r = 0; r < part->size(); ++r) {
            REQUIRE(record(*part, r).size() == 5);
            ends.insert(record(*part, r).back());
          }
        }
        CHECK(std::ssize(ends) == records);
        for (const std::int32_t end : ends) CHECK(end % 5 == 4);
      }
    }
  }
}

TEST_CASE("of a few records the one held out is neither most of the data nor without a target") {
  TokenRecords train, validation;
  std::set<std::size_t> chosen;
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    split(counted({1, 1000, 30, 40, 0}), 0.01, seed, train, validation);
    REQUIRE(validation.size() == 1);
    chosen.insert(validation.ids.size());
  }
  CHECK(chosen == std::set<std::size_t>{30, 40});
  split(counted({1, 1}), 0.05, 1, train, validation);  // nothing better is there
  CHECK(validation.ids.size() == 1);
}

TEST_CASE("of the only record the beginning is held out, never its end, or nothing") {
  TokenRecords train, validation;
  TokenRecords book = counted({1000});
  book.labels = book.ids;
  book.labels[10] = -100;
  split(book, 0.05, 1, train, validation);
  CHECK(validation.offsets == std::vector<std::int64_t>{0, 50});
  CHECK(train.offsets == std::vector<std::int64_t>{0, 950});
  CHECK(train.ids.front() == 50);
  CHECK(train.ids.back() == 999);
  CHECK(validation.labels[10] == -100);
  split(book, 0.05, 1, train, validation, OnlyRecord::keep);
  CHECK(train.ids == book.ids);
  CHECK(validation.size() == 0);
  for (const int tokens : {0, 1, 3, 20}) {  // a part of one token has no target
    split(counted({tokens}), 0.05, 1, train, validation);
    CHECK(std::ssize(train.ids) == tokens);
    CHECK(validation.size() == 0);
  }
}

TEST_CASE("of a few books no more is held out than was asked for") {
  TokenRecords train, validation;
  const TokenRecords books = counted({4000, 40'000, 10'000, 6000, 5000, 12'000});
  std::set<std::size_t> held_out;
  for (const double share : {0.05, 0.1}) {  // less than a book, and one
    for (std::uint64_t seed = 0; seed < 20; ++seed) {
      split(books, share, seed, train, validation);
      REQUIRE(validation.size() == 1);
      CHECK(train.ids.size() + validation.ids.size() == books.ids.size());
      CHECK(static_cast<double>(validation.ids.size()) <= 1.5 * share * 77'000);
      held_out.insert(validation.ids.size());
    }
  }
  // A part of a large one, the whole of one that is about as long as was asked for.
  CHECK(held_out == std::set<std::size_t>{3850, 4000, 5000, 6000, 7700, 10'000});

  // A part is from the beginning of its book, whose end stays to be learnt.
  for (std::uint64_t seed = 0; validation.ids.size() != 7700 && seed < 50; ++seed) {
    split(books, 0.1, seed, train, validation);
  }
  REQUIRE(validation.ids.size() == 7700);
  const std::int32_t first = validation.ids.front();
  CHECK((first == 4000 || first == 65'000));
  CHECK(validation.ids.back() == first + 7699);
  CHECK(std::find(train.ids.begin(), train.ids.end(), first + 7700) != train.ids.end());
  CHECK(train.size() == 6);

  // Of several the largest ones go while the others have enough.
  split(books, 0.5, 3, train, validation);
  CHECK(std::abs(std::ssize(validation.ids) - 38'500) <= 38'500 / 2);
  // Records with rows of their own are not cut, nor are those of which little is wanted.
  split(books, 0.1, 1, train, validation, OnlyRecord::keep);
  CHECK(train.size() == 5);
  split(counted({100, 400, 500, 300}), 0.25, 2, train, validation);
  CHECK(train.size() == 3);
}

TEST_CASE(
    "no share holds nothing out, an impossible one is refused, and the source may be a target") {
  TokenRecords train, validation;
  TokenRecords corpus = counted({3, 4});
  split(corpus, 0.0, 1, train, validation);
  CHECK(train.ids == corpus.ids);
  CHECK(validation.size() == 0);
  for (const double share : {-0.1, 1.0, 2.0, std::nan("")}) {
    CHECK_THROWS_AS(split(corpus, share, 1, train, validation), Error);
  }
  split(corpus, 0.5, 1, corpus, validation);
  CHECK(corpus.size() == 1);
  CHECK(validation.size() == 1);
}

TEST_CASE("views of a split are the copies of it, of text and of shards") {
  const ScratchFolder folder;
  for (const int records : {1, 2, 40}) {
    auto corpus = std::make_shared<TokenRecords>();
    for (int r = 0; r < records; ++r) {
      const auto ids = integers(r % 7 + (records < 3 ? 10 : 0), static_cast<std::uint64_t>(r), 300);
      corpus->ids.insert(corpus->ids.end(), ids.begin(), ids.end());
      corpus->offsets.push_back(std::ssize(corpus->ids));
    }
    for (const bool labelled : {false, true}) {
      if (labelled) {
        corpus->labels = corpus->ids;
        for (std::size_t i = 0; i < corpus->ids.size(); i += 2) corpus->labels[i] = kIgnoredTarget;
      }
      const std::string name = std::to_string(records) + (labelled ? "labelled" : "");
      fs::create_directories(folder / name);
      ShardWriter writer(folder / name, {.size = 300, .fingerprint = 1}, 9);
      writer.add(*corpus);
      writer.finish();
      auto shards = std::make_shared<std::vector<TokenShard>>();
      for (const auto& shard : writer.shards()) {
        shards->emplace_back(fs::path(folder / name) / shard.file);
      }
      for (const double share : {0.0, 0.2, 0.5}) {
        INFO(name << " " << share);
        const OnlyRecord only = records == 1 && labelled ? OnlyRecord::keep : OnlyRecord::cut;
        TokenRecords train, validation;
        split_copies(*corpus, share, 7, train, validation, only);
        const auto check = [](const TokenView& view, const TokenRecords& want) {
          const TokenRecords got = records_of(view);
          CHECK(got.ids == want.ids);
          CHECK(got.labels == want.labels);
          CHECK(got.offsets == want.offsets);
        };
        for (const int vocab_size : {0, 300}) {  // ids of 32 and of 16 bits
          const TrainData of_text =
              split(view_of(stored_in_pieces(*corpus, vocab_size)), share, 7, only);
          check(of_text.train, train);
          check(of_text.validation, validation);
        }
        check(view_of(shards), *corpus);
        const TrainData of_shards = split(view_of(shards), share, 7, only);
        check(of_shards.train, train);
        check(of_shards.validation, validation);
      }
    }
  }
}

TEST_CASE("a book that is held out in part is the same part as a view and as a copy") {
  TokenRecords books;
  for (const int tokens : {4000, 7000, 5000}) {
    for (int i = 0; i < tokens; ++i) books.ids.push_back(i % 300);
    books.offsets.push_back(std::ssize(books.ids));
  }
  std::set<std::size_t> in_part;  // which of them
  for (std::uint64_t seed = 0; seed < 9; ++seed) {
    TokenRecords train, validation;
    split_copies(books, 0.1, seed, train, validation);
    const TrainData views = split(view_of(stored_in_pieces(books, 300)), 0.1, seed);
    const auto same = [](const TokenView& view, const TokenRecords& want) {
      const TokenRecords got = records_of(view);
      CHECK(got.ids == want.ids);
      CHECK(got.offsets == want.offsets);
    };
    same(views.train, train);
    same(views.validation, validation);
    for (std::size_t r = 0; r < 3 && train.size() == 3; ++r) {
      const std::int64_t whole = books.offsets[r + 1] - books.offsets[r];
      if (train.offsets[r + 1] - train.offsets[r] < whole) in_part.insert(r);
    }
  }
  CHECK(in_part == std::set<std::size_t>{0, 1, 2});
}

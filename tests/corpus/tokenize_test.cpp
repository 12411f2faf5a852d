#include <algorithm>
#include <cmath>
#include <random>
#include <set>

#include "corpus/records.h"
#include "tests/support/catch.h"
#include "tests/support/fixtures.h"
#include "tests/support/scratch.h"

using quire::Fault;
using quire::Record;
using quire::TokenizedCorpus;
using quire::Tokenizer;
using quire::test::ScratchFolder;

namespace {

// Bytes, some merges over letters, spaces and line ends, and <|endoftext|>.
Tokenizer small_tokenizer() {
  const ScratchFolder folder;
  const std::vector<std::filesystem::path> files = {
      folder.write("a.txt", "the cat and the dog\n\nthe end \n the end\n   the cat\n")};
  return quire::train_bpe(files, {.vocab_size = 290, .min_frequency = 1});
}

Record text(std::string value) {
  return {.text = std::move(value), .input_ids = {}, .labels = {}};
}

// A corpus of records with so many tokens each; token i of the whole is i.
TokenizedCorpus counted(const std::vector<int>& lengths) {
  TokenizedCorpus corpus;
  for (const int length : lengths) {
    for (int i = 0; i < length; ++i)
      corpus.ids.push_back(static_cast<std::int32_t>(corpus.ids.size()));
    corpus.offsets.push_back(static_cast<std::int64_t>(corpus.ids.size()));
  }
  return corpus;
}

std::vector<std::int32_t> record(const TokenizedCorpus& corpus, std::int64_t index) {
  return {corpus.ids.begin() + corpus.offsets[static_cast<std::size_t>(index)],
          corpus.ids.begin() + corpus.offsets[static_cast<std::size_t>(index) + 1]};
}

}  // namespace

TEST_CASE("records of text end with end-of-text, records of ids stay as they are") {
  const Tokenizer tokenizer = small_tokenizer();
  const std::int32_t end = tokenizer.end_of_text().value();
  const std::vector<Record> records = {text("the cat"),
                                       {.text = "", .input_ids = {5, 6}, .labels = {-100, 6}},
                                       text("dog<|endoftext|>"),
                                       {.text = "", .input_ids = {7}, .labels = {}}};
  const TokenizedCorpus corpus = quire::tokenize(records, tokenizer, 1);
  REQUIRE(corpus.size() == 4);
  std::vector<std::int32_t> first = tokenizer.encode("the cat");
  first.push_back(end);
  CHECK(record(corpus, 0) == first);
  CHECK(record(corpus, 1) == std::vector<std::int32_t>{5, 6});
  CHECK(record(corpus, 2) == tokenizer.encode("dog<|endoftext|>"));  // already ended
  CHECK(record(corpus, 3) == std::vector<std::int32_t>{7});
  REQUIRE(corpus.labels.size() == corpus.ids.size());
  for (std::size_t i = 0; i < corpus.ids.size(); ++i) {
    const bool ignored = i == static_cast<std::size_t>(corpus.offsets[1]);
    CHECK(corpus.labels[i] == (ignored ? -100 : corpus.ids[i]));
  }
  CHECK(quire::tokenize(std::vector{text("a")}, tokenizer, 1).labels.empty());
}

TEST_CASE("ids that the tokenizer does not have are refused") {
  const ScratchFolder folder;
  const Tokenizer tokenizer = small_tokenizer();
  const std::string size = std::to_string(tokenizer.vocab_size());
  const std::vector<Record> records = {
      text("a"), {.text = "", .input_ids = {1, tokenizer.vocab_size()}, .labels = {}}};
  CHECK(folder.message_of(Fault::bad_data, [&] { quire::tokenize(records, tokenizer, 1); }) ==
        "error: record 2 has the token id " + size + "\n  the tokenizer has " + size +
            " ids, from 0\n"
            "  try: encode the data with this model's tokenizer");
}

TEST_CASE("threads and cuts in large texts do not change the ids") {
  const Tokenizer tokenizer = small_tokenizer();
  std::mt19937 random(1);
  const std::vector<std::string> words = {
      "the",           " cat", " dog", "\n", "\n\n", " ",    "  ", " \n",           "\n ",
      "end",           "\t",   "é",    "'s", "12",   "\r\n", "…",  "<|endoftext|>", "\xC2\xA0",
      "\xE3\x80\x80\n"};
  std::vector<Record> records;
  for (const std::size_t size : {3'000'000u, 10u, 0u, 700'000u, 5u, 300'000u}) {
    std::string document;
    while (document.size() < size) document += words[random() % words.size()];
    records.push_back(text(document));
    if (size == 5) records.push_back({.text = "", .input_ids = {1, 2, 3}, .labels = {}});
  }
  records.push_back(text(std::string(1'500'000, 'x')));  // nowhere to cut
  records.push_back(text(std::string(1'500'000, '\n')));
  for (int i = 0; i < 20'000; ++i) records.push_back(text("the cat " + std::to_string(i)));

  const TokenizedCorpus one = quire::tokenize(records, tokenizer, 1);
  const TokenizedCorpus many = quire::tokenize(records, tokenizer, 5);
  CHECK(one.ids == many.ids);
  CHECK(one.offsets == many.offsets);
  REQUIRE(one.size() == static_cast<std::int64_t>(records.size()));
  for (std::size_t r = 0; r < records.size(); ++r) {
    std::vector<std::int32_t> whole = records[r].input_ids;
    if (whole.empty()) {
      whole = tokenizer.encode(records[r].text);
      if (whole.empty() || whole.back() != tokenizer.end_of_text())
        whole.push_back(*tokenizer.end_of_text());
    }
    if (record(one, static_cast<std::int64_t>(r)) != whole) FAIL("record " << r << " differs");
  }
}

TEST_CASE("a split takes whole records, keeps their order, and is the same for the same seed") {
  std::vector<int> lengths(100);
  for (int i = 0; i < 100; ++i) lengths[static_cast<std::size_t>(i)] = 1 + i % 7;
  const TokenizedCorpus corpus = counted(lengths);
  TokenizedCorpus train, validation, train2, validation2;
  quire::split(corpus, 0.1, 42, train, validation);
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

  quire::split(corpus, 0.1, 42, train2, validation2);
  CHECK(validation2.ids == validation.ids);
  quire::split(corpus, 0.1, 43, train2, validation2);
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
        const TokenizedCorpus corpus =
            counted(std::vector<int>(static_cast<std::size_t>(records), 5));
        TokenizedCorpus train, validation;
        quire::split(corpus, share, seed, train, validation);
        CHECK(validation.size() >= 1);
        CHECK(train.size() >= 1);
        CHECK(train.size() + validation.size() == records);
        std::set<std::int32_t> ends;  // ids count from 0: those that end a record are 4, 9, …
        for (const TokenizedCorpus* part : {&train, &validation}) {
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
  TokenizedCorpus train, validation;
  std::set<std::size_t> chosen;
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    quire::split(counted({1, 1000, 30, 40, 0}), 0.01, seed, train, validation);
    REQUIRE(validation.size() == 1);
    chosen.insert(validation.ids.size());
  }
  CHECK(chosen == std::set<std::size_t>{30, 40});
  quire::split(counted({1, 1}), 0.05, 1, train, validation);  // nothing better is there
  CHECK(validation.ids.size() == 1);
}

TEST_CASE("of the only record the beginning is held out, never its end, or nothing") {
  TokenizedCorpus train, validation;
  TokenizedCorpus book = counted({1000});
  book.labels = book.ids;
  book.labels[10] = -100;
  quire::split(book, 0.05, 1, train, validation);
  CHECK(validation.offsets == std::vector<std::int64_t>{0, 50});
  CHECK(train.offsets == std::vector<std::int64_t>{0, 950});
  CHECK(train.ids.front() == 50);
  CHECK(train.ids.back() == 999);
  CHECK(validation.labels[10] == -100);
  quire::split(book, 0.05, 1, train, validation, quire::OnlyRecord::keep);
  CHECK(train.ids == book.ids);
  CHECK(validation.size() == 0);
  for (const int tokens : {0, 1, 3, 20}) {  // a part of one token has no target
    quire::split(counted({tokens}), 0.05, 1, train, validation);
    CHECK(std::ssize(train.ids) == tokens);
    CHECK(validation.size() == 0);
  }
}

TEST_CASE("of a few books no more is held out than was asked for") {
  TokenizedCorpus train, validation;
  const TokenizedCorpus books = counted({4000, 40'000, 10'000, 6000, 5000, 12'000});
  std::set<std::size_t> held_out;
  for (const double share : {0.05, 0.1}) {  // less than a book, and one
    for (std::uint64_t seed = 0; seed < 20; ++seed) {
      quire::split(books, share, seed, train, validation);
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
    quire::split(books, 0.1, seed, train, validation);
  }
  REQUIRE(validation.ids.size() == 7700);
  const std::int32_t first = validation.ids.front();
  CHECK((first == 4000 || first == 65'000));
  CHECK(validation.ids.back() == first + 7699);
  CHECK(std::find(train.ids.begin(), train.ids.end(), first + 7700) != train.ids.end());
  CHECK(train.size() == 6);

  // Of several the largest ones go while the others have enough.
  quire::split(books, 0.5, 3, train, validation);
  CHECK(std::abs(std::ssize(validation.ids) - 38'500) <= 38'500 / 2);
  // Records with rows of their own are not cut, nor are those of which little is wanted.
  quire::split(books, 0.1, 1, train, validation, quire::OnlyRecord::keep);
  CHECK(train.size() == 5);
  quire::split(counted({100, 400, 500, 300}), 0.25, 2, train, validation);
  CHECK(train.size() == 3);
}

TEST_CASE(
    "no share holds nothing out, an impossible one is refused, and the source may be a target") {
  TokenizedCorpus train, validation;
  TokenizedCorpus corpus = counted({3, 4});
  quire::split(corpus, 0.0, 1, train, validation);
  CHECK(train.ids == corpus.ids);
  CHECK(validation.size() == 0);
  for (const double share : {-0.1, 1.0, 2.0, std::nan("")}) {
    CHECK_THROWS_AS(quire::split(corpus, share, 1, train, validation), quire::Error);
  }
  quire::split(corpus, 0.5, 1, corpus, validation);
  CHECK(corpus.size() == 1);
  CHECK(validation.size() == 1);
}

TEST_CASE("a record in parts has the ids of the whole, over two calls too") {
  const Tokenizer tokenizer = small_tokenizer();
  const std::string whole = "the cat\n\nthe end\n the <|endoftext|>\n  the dog\n";
  const TokenizedCorpus want = quire::tokenize(std::vector{text(whole), text("cat")}, tokenizer, 1);
  int cuts = 0;
  for (std::size_t at = 0; at < whole.size(); ++at) {
    if (!quire::can_cut(whole, at)) continue;
    ++cuts;
    std::vector<Record> records = {text(whole.substr(0, at)), text(whole.substr(at)), text("cat")};
    records[0].more = true;
    const TokenizedCorpus got = quire::tokenize(records, tokenizer, 1);
    CHECK(got.ids == want.ids);
    CHECK(got.offsets == want.offsets);
    const TokenizedCorpus open = quire::tokenize(std::span(records).first(1), tokenizer, 1);
    CHECK(open.size() == 0);
    CHECK(open.ids == tokenizer.encode(records[0].text));
  }
  CHECK(cuts == 4);
}

TEST_CASE("labels may be asked for, and errors count the records before") {
  const Tokenizer tokenizer = small_tokenizer();
  const std::vector<Record> good = {text("the cat")};
  CHECK(quire::tokenize(good, tokenizer, 1).labels.empty());
  const TokenizedCorpus labelled = quire::tokenize(good, tokenizer, 1, /*labels=*/true);
  CHECK(labelled.labels == labelled.ids);
  const std::vector<Record> bad = {{.text = "", .input_ids = {290}, .labels = {}}};
  const std::string message = ScratchFolder().message_of(
      Fault::bad_data, [&] { quire::tokenize(bad, tokenizer, 1, false, 1'000); });
  CHECK(message.find("record 1,001 has the token id 290") != std::string::npos);
}

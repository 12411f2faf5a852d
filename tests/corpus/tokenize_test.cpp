#include <random>

#include "corpus/records.h"
#include "tests/corpus/tokenized.h"
#include "tests/support/catch.h"
#include "tests/support/fixtures.h"
#include "tests/support/scratch.h"

using quire::Fault;
using quire::Record;
using quire::Tokenizer;
using quire::TokenRecords;
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

std::vector<std::int32_t> record(const TokenRecords& corpus, std::int64_t index) {
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
  const TokenRecords corpus = quire::test::tokenized(records, tokenizer, 1);
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
  CHECK(quire::test::tokenized(std::vector{text("a")}, tokenizer, 1).labels.empty());
}

TEST_CASE("ids that the tokenizer does not have are refused") {
  const ScratchFolder folder;
  const Tokenizer tokenizer = small_tokenizer();
  const std::string size = std::to_string(tokenizer.vocab_size());
  const std::vector<Record> records = {
      text("a"), {.text = "", .input_ids = {1, tokenizer.vocab_size()}, .labels = {}}};
  CHECK(
      folder.message_of(Fault::bad_data, [&] { quire::test::tokenized(records, tokenizer, 1); }) ==
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

  const TokenRecords one = quire::test::tokenized(records, tokenizer, 1);
  const TokenRecords many = quire::test::tokenized(records, tokenizer, 5);
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

TEST_CASE("a record in parts has the ids of the whole, over two calls too") {
  const Tokenizer tokenizer = small_tokenizer();
  const std::string whole = "the cat\n\nthe end\n the <|endoftext|>\n  the dog\n";
  const TokenRecords want =
      quire::test::tokenized(std::vector{text(whole), text("cat")}, tokenizer, 1);
  int cuts = 0;
  for (std::size_t at = 0; at < whole.size(); ++at) {
    if (!quire::can_cut(whole, at)) continue;
    ++cuts;
    std::vector<Record> records = {text(whole.substr(0, at)), text(whole.substr(at)), text("cat")};
    records[0].more = true;
    const TokenRecords got = quire::test::tokenized(records, tokenizer, 1);
    CHECK(got.ids == want.ids);
    CHECK(got.offsets == want.offsets);
    const TokenRecords open = quire::test::tokenized(std::span(records).first(1), tokenizer, 1);
    CHECK(open.size() == 0);
    CHECK(open.ids == tokenizer.encode(records[0].text));
  }
  CHECK(cuts == 4);
}

TEST_CASE("labels may be asked for, and errors count the records before") {
  const Tokenizer tokenizer = small_tokenizer();
  const std::vector<Record> good = {text("the cat")};
  CHECK(quire::test::tokenized(good, tokenizer, 1).labels.empty());
  const TokenRecords labelled = quire::test::tokenized(good, tokenizer, 1, /*labels=*/true);
  CHECK(labelled.labels == labelled.ids);
  const std::vector<Record> bad = {{.text = "", .input_ids = {290}, .labels = {}}};
  const std::string message = ScratchFolder().message_of(
      Fault::bad_data, [&] { quire::test::tokenized(bad, tokenizer, 1, false, 1'000); });
  CHECK(message.find("record 1,001 has the token id 290") != std::string::npos);
}

TEST_CASE("large texts are handed out in parts, but for a prompt's, which is left out to its end") {
  const Tokenizer tokenizer = small_tokenizer();
  std::string large;
  while (large.size() < 800'000) large += "the cat and the dog\n";
  std::vector<Record> records = {text(large), text(large), text("the end")};
  records[1].prompt_bytes = 700'001;
  std::size_t parts = 0;
  quire::tokenize(records, tokenizer, 3, [&](const TokenRecords& part) {
    ++parts;
    CHECK(part.labels.size() == part.ids.size());
    CHECK(part.offsets.back() <= std::ssize(part.ids));
  });
  CHECK(parts > 3);
  const TokenRecords all = quire::test::tokenized(records, tokenizer, 3);
  REQUIRE(all.size() == 3);
  CHECK(record(all, 0) == record(all, 1));
  std::vector<std::int32_t> want = all.ids;
  std::size_t end = 0;
  for (auto i = static_cast<std::size_t>(all.offsets[1]); i < want.size(); ++i) {
    end += tokenizer.token_bytes(want[i]).size();
    if (end > records[1].prompt_bytes) break;
    want[i] = -100;
  }
  CHECK((all.labels == want));
}

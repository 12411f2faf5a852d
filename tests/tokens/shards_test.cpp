// Shards hold what went in; every way in which one can be broken is an error.
#include "tokens/shards.h"

#include <algorithm>
#include <cstring>

#include "base/file.h"
#include "base/hash.h"
#include "corpus/records.h"
#include "tests/support/catch.h"
#include "tests/support/scratch.h"

using namespace quire;
using quire::test::ScratchFolder;

namespace {

/// The 256 bytes, and tokens that nothing merges to up to the size.
Tokenizer tokenizer_of(int size) {
  const ScratchFolder folder;
  const std::filesystem::path text = folder.write("t.txt", "a");
  Tokenizer::Vocabulary vocabulary =
      train_bpe({&text, 1}, {.vocab_size = 256, .special_tokens = {}}).vocabulary();
  for (int i = 256; i < size; ++i) vocabulary.tokens.push_back("<" + std::to_string(i) + ">");
  return Tokenizer::from_vocabulary(vocabulary);
}

/// As they lie in the file.
std::vector<std::int32_t> values(const TokenShard::Ids& ids) {
  if (const auto* narrow = std::get_if<std::span<const std::uint16_t>>(&ids)) {
    return {narrow->begin(), narrow->end()};
  }
  const auto& wide = std::get<std::span<const std::int32_t>>(ids);
  return {wide.begin(), wide.end()};
}

TokenRecords corpus_of(const std::vector<std::vector<std::int32_t>>& records,
                       std::vector<std::int32_t> labels = {}) {
  TokenRecords corpus;
  for (const auto& ids : records) {
    corpus.ids.insert(corpus.ids.end(), ids.begin(), ids.end());
    corpus.offsets.push_back(std::ssize(corpus.ids));
  }
  corpus.labels = std::move(labels);
  return corpus;
}

/// Sets the bytes of a shard and, where that is asked for, makes its checksums right again.
std::string with_bytes(std::string shard, std::size_t at, const void* bytes, std::size_t size,
                       bool checksums) {
  std::memcpy(shard.data() + at, bytes, size);
  if (!checksums) return shard;
  const std::uint64_t all = hash64(std::string_view(shard).substr(64));
  std::memcpy(shard.data() + 48, &all, 8);
  const std::uint64_t header = hash64(std::string_view(shard).substr(0, 56));
  std::memcpy(shard.data() + 56, &header, 8);
  return shard;
}

template <class T>
std::string with(const std::string& shard, std::size_t at, T value, bool checksums = true) {
  return with_bytes(shard, at, &value, sizeof value, checksums);
}

}  // namespace

TEST_CASE("shards hold the records that were added, in 16 bits or 32") {
  for (const int size : {300, 65'535, 65'536}) {
    INFO(size);
    const ScratchFolder folder;
    const Tokenizer tokenizer = tokenizer_of(size);
    REQUIRE(tokenizer.vocab_size() == size);
    const std::int32_t last = size - 1;
    ShardWriter writer(folder.path(), vocabulary_of(tokenizer), 4);
    writer.add(corpus_of({{1, last}, {}, {2, 3, 4}}));
    writer.add(corpus_of({{5}}));
    writer.add(corpus_of({{6, 7}}, {-100, 7}));
    writer.add(corpus_of({{8}}));
    writer.finish();
    writer.finish();  // nothing is left
    CHECK(writer.bytes_per_id() == (size < 65'536 ? 2 : 4));
    CHECK(writer.records() == 6);
    CHECK(writer.tokens() == 9);
    CHECK(writer.labelled());
    REQUIRE(writer.shards().size() == 2);
    CHECK(writer.shards()[1].file == "shard-00001.tokens");

    const TokenShard first(folder / "shard-00000.tokens"), second(folder / "shard-00001.tokens");
    CHECK(values(first.ids()) == std::vector<std::int32_t>{1, last, 2, 3, 4});
    CHECK(std::vector<std::int64_t>(first.offsets().begin(), first.offsets().end()) ==
          std::vector<std::int64_t>{0, 2, 2, 5});
    CHECK_FALSE(first.labels().has_value());
    CHECK(first.vocabulary().size == size);
    CHECK(first.vocabulary().fingerprint == vocabulary_of(tokenizer).fingerprint);
    CHECK(first.checksum() == writer.shards()[0].checksum);
    CHECK(values(second.ids()) == std::vector<std::int32_t>{5, 6, 7, 8});
    REQUIRE(second.labels().has_value());
    CHECK(values(*second.labels()) ==
          std::vector<std::int32_t>{5, size < 65'536 ? 65'535 : -100, 7, 8});
  }
}

TEST_CASE("a label outside the vocabulary never gets into a shard") {
  const ScratchFolder folder;
  ShardWriter writer(folder.path(), vocabulary_of(tokenizer_of(300)), 100);
  writer.add(corpus_of({{1}, {2}}));
  CHECK(folder.message_of(Fault::bad_data,
                          [&] {
                            writer.add(corpus_of({{3}, {4, 5}}, {3, 4, 300}));
                          }) ==
        "error: record 4 has the label 300\n  the tokenizer has 300 ids, from 0\n"
        "  try: encode the data with this model's tokenizer");
}

TEST_CASE("a broken shard is refused, whatever is broken") {
  const ScratchFolder folder;
  ShardWriter writer(folder.path(), vocabulary_of(tokenizer_of(300)), 100);
  writer.add(corpus_of({{1, 2, 3}, {4, 5}}, {1, -100, 3, 4, 5}));
  writer.finish();
  const std::string good = read_file(folder / "shard-00000.tokens");
  REQUIRE(good.size() == 64 + 3 * 8 + 16 + 16);
  const auto why = [&](const std::string& bytes) {
    const auto path = folder.write("x.tokens", bytes);
    const std::string text = folder.message_of(Fault::bad_data, [&] { TokenShard{path}; });
    const std::string start = "error: DIR/x.tokens is not a token shard, or damaged\n  ";
    const std::string end = "\n  try: quire data prepare";
    REQUIRE(text.find(start) == 0);
    REQUIRE(text.size() > start.size() + end.size());
    REQUIRE(text.substr(text.size() - end.size()) == end);
    return text.substr(start.size(), text.size() - start.size() - end.size());
  };
  CHECK(why("") == "it is shorter than a header");
  CHECK(why(good.substr(0, 63)) == "it is shorter than a header");
  CHECK(why(with(good, 0, 'q')) == "it does not begin with QRTOKENS");
  CHECK(why(with(good, 8, 2u)) == "it is of version 2, this program reads 1");
  CHECK(why(with(good, 20, 301u, false)) == "its header's checksum is wrong");
  CHECK(why(with(good, 12, 3u)) == "its header makes no sense");
  CHECK(why(with(good, 16, 2u)) == "its header makes no sense");
  CHECK(why(with(good, 20, 0u)) == "its header makes no sense");
  CHECK(why(with(good, 24, ~std::uint64_t{0})) == "it is shorter than its header says");
  CHECK(why(with(good, 32, ~std::uint64_t{0} / 2)) == "it is shorter than its header says");
  CHECK(why(with(good, 24, std::uint64_t{3})) == "it has 120 bytes, its header says 128");
  CHECK(why(good + '\0') == "it has 121 bytes, its header says 120");
  CHECK(why(good.substr(0, 119)) == "it has 119 bytes, its header says 120");
  for (std::size_t at = 64; at < good.size(); ++at) {
    CHECK(why(with(good, at, static_cast<char>(good[at] ^ 1), false)) == "its checksum is wrong");
  }
  CHECK(why(with(good, 64, std::int64_t{1})) == "its records are not in order");
  CHECK(why(with(good, 72, std::int64_t{6})) == "its records are not in order");
  CHECK(why(with(good, 72, std::int64_t{-1})) == "its records are not in order");
  CHECK(why(with(good, 80, std::int64_t{4})) == "its records are not in order");
  CHECK(TokenShard(folder.write("y.tokens", good)).offsets().size() == 3);
}

TEST_CASE("a folder of shards is what its manifest says, or refused") {
  const ScratchFolder folder;
  const Tokenizer tokenizer = tokenizer_of(300);
  ShardWriter writer(folder.path(), vocabulary_of(tokenizer), 1);
  writer.add(corpus_of({{1}, {2}}));
  const auto manifest = [&](const std::string& second, std::uint64_t checksum) {
    folder.write("manifest.json",
                 "{\"shards\": [{\"file\": \"shard-00000.tokens\", \"checksum\": \"" +
                     hash_text(writer.shards()[0].checksum) + "\"}, {\"file\": \"" + second +
                     "\", \"checksum\": \"" + hash_text(checksum) + "\"}]}");
  };
  const auto message = [&] {
    return folder.message_of(Fault::bad_data, [&] { open_shards({folder.path().string()}); });
  };
  CHECK(is_prepared(folder.path()));
  CHECK(message() ==
        "error: DIR was not prepared to its end\n  there are shards and no manifest.json\n"
        "  try: quire data prepare PATH... `tokenizer` DIR `overwrite_output_dir` -o DIR");
  folder.write("manifest.json", "{\"shards\": [{}]}");
  CHECK(message().find("error: DIR/manifest.json is damaged\n") == 0);
  manifest("../x.tokens", 1);
  CHECK(message().find("'../x.tokens' is not a file of the folder") != std::string::npos);
  manifest("shard-00002.tokens", 1);
  CHECK(message().find("cannot open DIR/shard-00002.tokens") != std::string::npos);
  manifest("shard-00001.tokens", 1);
  CHECK(message().find("error: DIR/shard-00001.tokens is not the shard that was prepared\n") == 0);
  manifest("shard-00001.tokens", writer.shards()[1].checksum);
  const std::vector<TokenShard> shards = open_shards({folder.path().string()});
  REQUIRE(shards.size() == 2);
  CHECK(open_shards({(folder / "shard-00001.tokens").string()}).size() == 1);
  check_tokenizer(shards, vocabulary_of(tokenizer));

  const Tokenizer other = tokenizer_of(301);
  CHECK(folder.message_of(Fault::bad_data, [&] { check_tokenizer(shards, vocabulary_of(other)); })
            .find("error: DIR/shard-00000.tokens was made with another tokenizer than this one\n"
                  "  the shard's has 300 ids and the fingerprint ") == 0);
  const ScratchFolder second;
  ShardWriter(second.path(), vocabulary_of(other), 1).add(corpus_of({{1}}));
  const std::string foreign = (second / "shard-00000.tokens").string();
  CHECK(folder.message_of(Fault::bad_data,
                          [&] {
                            open_shards({folder.path().string(), foreign});
                          })
            .find("were made with different tokenizers") != std::string::npos);
  const std::string text = folder.write("a.txt", "text").string();
  CHECK(folder.message_of(Fault::usage,
                          [&] {
                            open_shards({folder.path().string(), text});
                          }) ==
        "error: token shards and text cannot be trained on together\n"
        "  DIR/a.txt holds no shards\n"
        "  try: quire data prepare DIR/a.txt `tokenizer` DIR -o DIR");
}

TEST_CASE("a shard larger than what is held in memory, of records in parts, is the same shard") {
  const ScratchFolder folder;
  const std::vector<std::int32_t> lengths = {4'000'000, 1, 3'000'000, 500'000};
  for (const int vocabulary : {300, 70'000}) {
    const Tokenizer tokenizer = tokenizer_of(vocabulary);
    TokenRecords all;
    for (const std::int32_t length : lengths) {
      for (std::int32_t i = 0; i < length; ++i) all.ids.push_back((i * 7 + length) % vocabulary);
      all.offsets.push_back(std::ssize(all.ids));
    }
    // The last part of the last record alone brings labels.
    std::vector<std::int32_t> labels = all.ids;
    labels.back() = -100;
    const std::string name = std::to_string(vocabulary);
    std::filesystem::create_directories(folder / name);
    ShardWriter writer(folder / name, vocabulary_of(tokenizer), 1 << 30);
    for (std::size_t at = 0; at < all.ids.size(); at += 250'000) {
      TokenRecords part;
      const std::size_t end = std::min(at + 250'000, all.ids.size());
      const auto slice = [&](const std::vector<std::int32_t>& from) {
        return std::vector<std::int32_t>(from.begin() + static_cast<std::ptrdiff_t>(at),
                                         from.begin() + static_cast<std::ptrdiff_t>(end));
      };
      part.ids = slice(all.ids);
      if (end == all.ids.size()) part.labels = slice(labels);
      for (const std::int64_t offset : std::span(all.offsets).subspan(1)) {
        if (offset > static_cast<std::int64_t>(at) && offset <= static_cast<std::int64_t>(end)) {
          part.offsets.push_back(offset - static_cast<std::int64_t>(at));
        }
      }
      writer.add(part);
    }
    CHECK(writer.shards().empty());
    writer.finish();
    REQUIRE(writer.shards().size() == 1);
    const std::string file = folder / (name + "/" + writer.shards()[0].file);
    const TokenShard shard(file);
    CHECK((values(shard.ids()) == all.ids));
    CHECK(std::vector(shard.offsets().begin(), shard.offsets().end()) == all.offsets);
    if (vocabulary < 65'535) std::replace(labels.begin(), labels.end(), -100, 65'535);
    CHECK((values(shard.labels().value()) == labels));
    CHECK(std::distance(std::filesystem::directory_iterator(folder / name), {}) == 1);
  }
}

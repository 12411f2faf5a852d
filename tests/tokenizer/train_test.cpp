#include <numeric>

#include "base/utf8.h"
#include "tests/tokenizer/helpers.h"
#include "tokenizer/piece_counts.h"
#include "tokenizer/splitter.h"

using namespace quire;
using namespace quire::test;
namespace fs = std::filesystem;

namespace {

using Counts = std::map<std::string, std::uint64_t>;

Counts taken(PieceCounter& counter) {
  const PieceCounts counts = counter.take();
  Counts sorted;
  counts.for_each(
      [&](const PieceCounts::Entry& entry) { sorted[std::string(entry.piece())] = entry.count; });
  CHECK(sorted.size() == counts.size());
  return sorted;
}

Counts counted_whole(const std::string& bytes) {
  std::string text;
  utf8::append_replacing_invalid(bytes, text);
  Counts counts;
  for (std::size_t from = 0; from <= text.size();) {
    const std::string special = "<|endoftext|>";
    const std::size_t end = std::min(text.find(special, from), text.size());
    for_each_piece(std::string_view(text).substr(from, end - from),
                   [&](const char* at, std::size_t length) {
                     ++counts[{at, length}];
                   });
    from = end + special.size();
  }
  return counts;
}

/// Training as one would write it first: count all pairs again for each merge.
Merges blackboard_training(const Counts& pieces, std::size_t merges_wanted, std::uint64_t least) {
  std::map<std::string, int> id;
  for (const std::uint8_t byte : bytes_in_alphabet_order()) {
    const char character = static_cast<char>(byte);
    const int next = static_cast<int>(id.size());
    id[printable({&character, 1})] = next;
  }
  std::vector<std::pair<std::vector<std::string>, std::uint64_t>> words;
  for (const auto& [piece, count] : pieces) {
    words.emplace_back();
    for (const char byte : piece) words.back().first.push_back(printable({&byte, 1}));
    words.back().second = count;
  }
  Merges merges;
  while (merges.size() < merges_wanted) {
    std::map<std::pair<int, int>, std::pair<std::uint64_t, std::pair<std::string, std::string>>>
        pairs;
    for (const auto& [tokens, count] : words) {
      for (std::size_t i = 0; i + 1 < tokens.size(); ++i) {
        auto& pair = pairs[{id[tokens[i]], id[tokens[i + 1]]}];
        pair.first += count;
        pair.second = {tokens[i], tokens[i + 1]};
      }
    }
    const auto best =
        std::max_element(pairs.begin(), pairs.end(), [](const auto& a, const auto& b) {
          return a.second.first < b.second.first;  // the first of equals: the lowest ids
        });
    if (best == pairs.end() || best->second.first < least) break;
    const auto [left, right] = best->second.second;
    merges.emplace_back(left, right);
    const int next = static_cast<int>(id.size());
    id.emplace(left + right, next);
    for (auto& word : words) {
      std::vector<std::string>& tokens = word.first;
      for (std::size_t i = 0; i + 1 < tokens.size(); ++i) {
        if (tokens[i] != left || tokens[i + 1] != right) continue;
        tokens[i] += right;
        tokens.erase(tokens.begin() + static_cast<std::ptrdiff_t>(i) + 1);
      }
    }
  }
  return merges;
}

Merges trained(std::span<const fs::path> files, const BpeTrainingOptions& options) {
  const ScratchFolder folder;
  train_bpe(files, options).save(folder.path());
  return read_saved_merges(folder.path());
}

}  // namespace

TEST_CASE("pieces are counted alike wherever the chunks end") {
  Random random(11);
  for (int round = 0; round < 300; ++round) {
    std::string bytes;
    for (int i = 0; i < 30; ++i) {
      bytes += below(random, 8) ? awkward_text(random, 2) : random_bytes(random, 4);
    }
    const Counts expected = counted_whole(bytes);
    PieceCounter counter({"<|endoftext|>"}, 1);
    for (std::size_t at = 0; at < bytes.size();) {
      const std::size_t length = 1 + below(random, 1 + below(random, 60));
      counter.add_chunk(std::string_view(bytes).substr(at, length));
      at += length;
    }
    counter.end_text();
    INFO("text: " << bytes);
    REQUIRE(taken(counter) == expected);
  }
}

TEST_CASE("the end of a file ends its last piece") {
  PieceCounter counter({}, 1);
  counter.add_chunk("ab\xE2\x82");
  counter.end_text();
  counter.add_chunk(
      "\xAC"
      "cd");
  const std::string mark(utf8::replacement);
  CHECK(taken(counter) == Counts{{"ab", 1}, {mark, 2}, {"cd", 1}});
}

TEST_CASE("threads count what one thread counts") {
  Random random(12);
  std::string text;
  while (text.size() < 5'000'000) text += awkward_text(random, 4000);
  PieceCounter one({"<|endoftext|>"}, 1);
  PieceCounter three({"<|endoftext|>"}, 3);
  one.add_chunk(text);
  three.add_chunk(text);
  CHECK(taken(one) == taken(three));
}

TEST_CASE("training learns what counting all pairs again each time would learn") {
  Random random(13);
  for (int round = 0; round < 8; ++round) {
    const ScratchFolder folder;
    std::string text;
    for (int i = 0; i < 300; ++i) {
      const std::size_t length = 1 + below(random, 8);
      text += ' ';
      for (std::size_t j = 0; j < length; ++j) text += "aabcd"[below(random, 5)];
    }
    const std::vector<fs::path> files = {folder.write("text", text)};
    BpeTrainingOptions options;
    options.vocab_size = 257 + 80;
    options.min_frequency = 1 + static_cast<int>(below(random, 3));
    options.threads = 1;
    CHECK(trained(files, options) ==
          blackboard_training(counted_whole(text), 80,
                              static_cast<std::uint64_t>(options.min_frequency)));
  }
}

TEST_CASE("training gives the Hugging Face trainer's merges") {
  QUIRE_FIXTURE(text, "data/tinyshakespeare/input.txt");
  QUIRE_FIXTURE(model, "models/tiny-char");
  // tiny-char's vocabulary was trained on the first 90 % of the plays.
  const ScratchFolder folder;
  const std::string whole = read_file(text);
  const std::vector<fs::path> files = {
      folder.write("text", whole.substr(0, whole.size() * 9 / 10))};
  BpeTrainingOptions options;
  options.vocab_size = 1000;
  const Tokenizer ours = train_bpe(files, options);
  CHECK(ours.vocab_size() == 1000);
  CHECK(ours.end_of_text() == 999);
  ours.save(folder.path());
  CHECK(read_file(folder / "merges.txt") == read_file(model / "merges.txt"));
  const Tokenizer theirs = Tokenizer::load(model);
  for (TokenId id = 0; id < 1000; ++id) REQUIRE(ours.token_bytes(id) == theirs.token_bytes(id));
}

TEST_CASE("several files, threads and special tokens") {
  const ScratchFolder folder;
  const std::vector<fs::path> files = {
      folder.write("a.txt", "low low low lower lowest<|endoftext|>newer"),
      folder.write("b.txt", "newer newer wider<|sep|>wider <|endoftext|><|endoftext|>"),
      folder.write("empty.txt", "")};
  BpeTrainingOptions options;
  options.vocab_size = 300;
  options.special_tokens = {"<|sep|>", "<|endoftext|>"};
  options.threads = 1;
  const Tokenizer tokenizer = train_bpe(files, options);
  const int size = tokenizer.vocab_size();
  CHECK(size < 300);  // pairs seen once are not merged
  CHECK(tokenizer.token_to_id("<|sep|>") == size - 2);
  CHECK(tokenizer.end_of_text() == size - 1);
  for (TokenId id = 256; id < size - 2; ++id)
    CHECK_FALSE(contains(std::string(tokenizer.token_bytes(id)), "|"));
  CHECK(tokenizer.encode(" low").size() == 1);

  const Merges merges = trained(files, options);
  options.threads = 4;
  CHECK(trained(files, options) == merges);
}

TEST_CASE("training that cannot succeed is refused") {
  const ScratchFolder folder;
  const std::vector<fs::path> none = {folder / "none.txt"};
  const std::vector<fs::path> empty = {folder.write("empty.txt", "")};
  const std::vector<fs::path> a_folder = {folder.path()};
  CHECK(contains(error_of([&] { train_bpe(none, {}); }), "none.txt"));
  CHECK(contains(error_of([&] { train_bpe(empty, {}); }), "nothing to train"));
  CHECK(contains(error_of([&] { train_bpe(a_folder, {}); }), "cannot read"));
  const auto usage = [&](const BpeTrainingOptions& options) {
    try {
      train_bpe(empty, options);
    } catch (const Error& error) {
      CHECK(error.fault() == Fault::usage);
      return error.message();
    }
    return std::string();
  };
  CHECK(contains(usage({.vocab_size = 256}), "too small"));
  CHECK(contains(usage({.special_tokens = {"a"}}), "'a' cannot be a special token"));
  CHECK(contains(usage({.special_tokens = {"<x>", "<x>"}}), "named twice"));
  CHECK(contains(usage({.special_tokens = {""}}), "it is empty"));
}

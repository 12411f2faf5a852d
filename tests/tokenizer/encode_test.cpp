#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <thread>

#include "base/json.h"
#include "tests/tokenizer/helpers.h"
#include "tokenizer/bpe.h"
#include "tokenizer/splitter.h"

using namespace quire;
using namespace quire::test;
using nlohmann::json;

namespace {

std::vector<TokenId> blackboard_encode(const Tokenizer& tokenizer, const Merges& merges,
                                       std::string_view text) {
  std::vector<TokenId> ids;
  for_each_piece(text, [&](const char* at, std::size_t length) {
    for (const std::string& name : blackboard_bpe(merges, std::string(at, length))) {
      ids.push_back(tokenizer.token_to_id(name).value());
    }
  });
  return ids;
}

/// Merges over a, b, c in an order that no training would give: results before their parts, and
/// several ways to make the same token.
Tokenizer::Vocabulary twisted_vocabulary(Random& random) {
  Tokenizer::Vocabulary vocabulary;
  for (const std::uint8_t byte : bytes_in_alphabet_order()) {
    const char character = static_cast<char>(byte);
    vocabulary.tokens.push_back(printable({&character, 1}));
  }
  std::vector<std::string> parts = {"a", "b", "c"};
  std::set<std::pair<std::string, std::string>> known;
  while (known.size() < 40) {
    const std::string left = parts[below(random, parts.size())];
    const std::string right = parts[below(random, parts.size())];
    if (left.size() + right.size() > 12 || !known.emplace(left, right).second) continue;
    vocabulary.merges.emplace_back(left, right);
    const std::string joined = left + right;
    if (std::find(parts.begin(), parts.end(), joined) == parts.end()) {
      parts.push_back(joined);
      vocabulary.tokens.push_back(joined);
    }
  }
  std::shuffle(vocabulary.merges.begin(), vocabulary.merges.end(), random);
  return vocabulary;
}

}  // namespace

TEST_CASE("the reference cases encode to the same ids and decode to the same text") {
  QUIRE_FIXTURE(path, "tokenizer/cases.jsonl");
  QUIRE_FIXTURE(vocabulary, "gpt2-vocab");
  const Tokenizer tokenizer = Tokenizer::load(vocabulary);
  std::ifstream file(path);
  int cases = 0;
  for (std::string line; std::getline(file, line); ++cases) {
    const json entry = parse_json<json>(line);
    const auto text = entry["text"].get<std::string>();
    const auto mode = entry.value("special", true) ? SpecialTokens::parse : SpecialTokens::plain;
    INFO(line.substr(0, 300));
    const std::vector<TokenId> ids = tokenizer.encode(text, mode);
    REQUIRE(ids == entry["ids"].get<std::vector<TokenId>>());
    REQUIRE(tokenizer.decode(ids) == text);
  }
  CHECK(cases == 983);
}

TEST_CASE("fast encoding equals encoding on the blackboard") {
  const ScratchFolder folder;
  const Tokenizer tokenizer = small_tokenizer();
  tokenizer.save(folder.path());
  const Merges merges = read_saved_merges(folder.path());
  REQUIRE(merges.size() == 70);
  Random random(2);
  for (int round = 0; round < 500; ++round) {
    const std::string text = awkward_text(random, 1 + below(random, 60));
    INFO("text: " << text);
    REQUIRE(tokenizer.encode(text, SpecialTokens::plain) ==
            blackboard_encode(tokenizer, merges, text));
  }
}

TEST_CASE("merges in any order are applied by rank, then from the left, at every length") {
  Random random(3);
  for (int round = 0; round < 60; ++round) {
    const Tokenizer::Vocabulary vocabulary = twisted_vocabulary(random);
    const Tokenizer tokenizer = Tokenizer::from_vocabulary(vocabulary);
    // Lengths around the cache's 15 bytes and around where long pieces take the heap.
    for (const std::size_t length : {2, 3, 7, 14, 15, 16, 17, 40, 127, 128, 129, 130, 300}) {
      std::string text(length, 'a');
      for (char& c : text) c = "aaabbc"[below(random, 6)];
      INFO("text: " << text);
      const std::vector<TokenId> expected = blackboard_encode(tokenizer, vocabulary.merges, text);
      REQUIRE(tokenizer.encode(text) == expected);
      REQUIRE(tokenizer.encode(text) == expected);  // and from the cache
    }
  }
}

TEST_CASE("a megabyte of one letter takes no more than its share of time") {
  const Tokenizer tokenizer = small_tokenizer();
  const std::string text(1 << 20, 'a');
  const std::vector<TokenId> ids = tokenizer.encode(text);
  CHECK(ids == std::vector<TokenId>(ids.size(), ids.front()));
  CHECK(tokenizer.decode(ids) == text);
}

TEST_CASE("decoding what was encoded gives the text back") {
  const Tokenizer tokenizer = small_tokenizer();
  Random random(4);
  for (int round = 0; round < 500; ++round) {
    const std::string text = awkward_text(random, below(random, 100));
    REQUIRE(tokenizer.decode(tokenizer.encode(text)) == text);
    REQUIRE(tokenizer.decode(tokenizer.encode(text, SpecialTokens::plain)) == text);
  }
}

TEST_CASE("ids are appended to those already there") {
  const Tokenizer tokenizer = small_tokenizer();
  std::vector<TokenId> ids = {1, 2};
  tokenizer.encode("hello", SpecialTokens::parse, ids);
  std::vector<TokenId> expected = {1, 2};
  for (const TokenId id : tokenizer.encode("hello")) expected.push_back(id);
  CHECK(ids == expected);
  CHECK(tokenizer.encode("").empty());
}

TEST_CASE("text of many pieces passes through the gathering buffer whole") {
  const Tokenizer tokenizer = small_tokenizer();
  std::string text;
  std::vector<TokenId> expected;
  for (int i = 0; i < 9000; ++i) {
    const std::string part = i % 7 == 0 ? " the" : i % 5 == 0 ? "." : " world";
    text += part;
    tokenizer.encode(part, SpecialTokens::parse, expected);
  }
  CHECK(tokenizer.encode(text) == expected);
}

TEST_CASE("ids that are taken as they come are those of the whole text") {
  const Tokenizer tokenizer = small_tokenizer();
  std::string text = "<|endoftext|>";
  for (int i = 0; i < 9000; ++i) text += i % 2000 == 1999 ? "<|endoftext|>" : " a world";
  text += std::string(70000, 'e') + "<|endoftext|>";  // one piece, longer than what is gathered
  for (const SpecialTokens special : {SpecialTokens::parse, SpecialTokens::plain}) {
    std::vector<TokenId> taken;
    std::size_t times = 0;
    tokenizer.encode(text, special, [&](std::span<const TokenId> ids) {
      CHECK_FALSE(ids.empty());
      taken.insert(taken.end(), ids.begin(), ids.end());
      ++times;
    });
    CHECK((taken == tokenizer.encode(text, special)));
    CHECK(times > 4);
  }
  tokenizer.encode("", SpecialTokens::parse, [](std::span<const TokenId>) { FAIL("no id"); });
  // What stops in between leaves the tokenizer as it was.
  CHECK_THROWS_AS(
      tokenizer.encode(text, SpecialTokens::plain, [](std::span<const TokenId>) { throw 1; }), int);
  CHECK(tokenizer.encode(" a world") == small_tokenizer().encode(" a world"));
}

TEST_CASE("special tokens are matched leftmost and longest, or taken as text") {
  Tokenizer::Vocabulary vocabulary;
  for (const std::uint8_t byte : bytes_in_alphabet_order()) {
    const char character = static_cast<char>(byte);
    vocabulary.tokens.push_back(printable({&character, 1}));
  }
  for (const char* special : {"<|a|>", "<|a|><|b|>", "<|endoftext|>", "[MASK]"}) {
    vocabulary.tokens.push_back(special);
    vocabulary.special_tokens.push_back(special);
  }
  const Tokenizer tokenizer = Tokenizer::from_vocabulary(vocabulary);
  using Ids = std::vector<TokenId>;
  CHECK(tokenizer.encode("<|a|>") == Ids{256});
  CHECK(tokenizer.encode("<|a|><|b|>") == Ids{257});
  CHECK(tokenizer.encode("<|a|><|a|><|b|>") == Ids{256, 257});
  CHECK(tokenizer.encode("[MASK]<|endoftext|>") == Ids{259, 258});
  CHECK(tokenizer.encode("<<|a|>").size() == 2);
  CHECK(tokenizer.encode("<|a|").size() == 4);
  CHECK(tokenizer.encode("<|a|>", SpecialTokens::plain).size() == 5);
  CHECK(tokenizer.decode(tokenizer.encode("x<|a|>y")) == "x<|a|>y");
  CHECK(tokenizer.decode(tokenizer.encode("x<|a|>y"), true) == "xy");
  CHECK(tokenizer.is_special(256));
  CHECK_FALSE(tokenizer.is_special(255));
  CHECK(tokenizer.end_of_text() == 258);
  CHECK(tokenizer.token_to_id("[MASK]") == 259);
  CHECK_FALSE(tokenizer.token_to_id("[mask]").has_value());
  CHECK(tokenizer.vocab_size() == 260);
}

TEST_CASE("several threads may use one tokenizer") {
  const Tokenizer tokenizer = small_tokenizer();
  const Tokenizer alone = small_tokenizer();
  Random random(5);
  std::vector<std::string> texts;
  std::vector<std::vector<TokenId>> expected;
  for (int i = 0; i < 50; ++i) {
    texts.push_back(awkward_text(random, 50));
    expected.push_back(alone.encode(texts.back()));
  }
  std::vector<int> wrong(4);
  std::vector<std::thread> threads;
  for (int& count : wrong) {
    threads.emplace_back([&] {
      for (int round = 0; round < 20; ++round) {
        for (std::size_t i = 0; i < texts.size(); ++i) {
          count += tokenizer.encode(texts[i]) != expected[i];
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(wrong == std::vector<int>(4));
}

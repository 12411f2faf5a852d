// What the tokenizer's tests share: a small vocabulary made on the spot, random
// text full of edge cases, and byte pair encoding as one would write it on a blackboard.
#pragma once

#include <algorithm>
#include <filesystem>
#include <map>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "tests/support/catch.h"
#include "tests/support/fixtures.h"
#include "tests/support/scratch.h"
#include "tests/support/text.h"
#include "tokenizer/byte_alphabet.h"
#include "tokenizer/tokenizer.h"

namespace quire::test {

using Random = std::mt19937_64;

inline std::size_t below(Random& random, std::size_t end) {
  return random() % end;
}

/// Characters at which tokenizers go wrong: contractions, spaces of all kinds, numbers that are not
/// digits, marks, joiners, special tokens and halves of them.
inline const std::vector<std::string>& awkward_bits() {
  static const std::vector<std::string> bits = {"a",
                                                "b",
                                                "the",
                                                "Z",
                                                "s",
                                                "'",
                                                "'s",
                                                "'S",
                                                "'ll",
                                                "'l",
                                                "'re",
                                                "'ve",
                                                "n't",
                                                "I'm",
                                                " ",
                                                " ",
                                                "  ",
                                                "\n",
                                                "\r\n",
                                                "\t",
                                                "\v",
                                                "\xC2\x85",
                                                "\xC2\xA0",
                                                "\xE2\x80\x83",
                                                "\xE3\x80\x80",
                                                "0",
                                                "42",
                                                "\xC2\xB2",
                                                "\xE2\x85\xA7",
                                                "\xD9\xA3",
                                                "\xC3\xA9",
                                                "e\xCC\x81",
                                                "\xC3\x9F",
                                                "\xD0\x9F",
                                                "\xE6\x97\xA5\xE6\x9C\xAC",
                                                "\xED\x95\x9C",
                                                "\xF0\x9F\x98\x80",
                                                "\xF0\x9F\x91\xA8\xE2\x80\x8D",
                                                "\xEF\xB8\x8F",
                                                "\xF0\x9D\x9F\x98",
                                                "\xEF\xBF\xBD",
                                                "!",
                                                "...",
                                                "_",
                                                "<|",
                                                "|>",
                                                "<",
                                                "(",
                                                "\"",
                                                "<|endoftext|>",
                                                std::string(1, '\0'),
                                                "\x7F",
                                                "aaaaaaaaaaaaaaaaaaaa",
                                                "                 "};
  return bits;
}

inline std::string awkward_text(Random& random, std::size_t bits) {
  std::string text;
  for (std::size_t i = 0; i < bits; ++i)
    text += awkward_bits()[below(random, awkward_bits().size())];
  return text;
}

inline std::string random_bytes(Random& random, std::size_t count) {
  std::string bytes(count, '\0');
  for (char& byte : bytes) {
    // Half of them make UTF-8 likely to begin, go on and break.
    static constexpr unsigned char hard[] = {0xC0, 0xC3, 0xE0, 0xED, 0xEF, 0xF0, 0xF4, 0xF5,
                                             0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xFF, 'a'};
    byte = static_cast<char>(below(random, 2) ? hard[below(random, 16)] : below(random, 256));
  }
  return bytes;
}

/// A few hundred tokens learnt from a few lines.
inline Tokenizer small_tokenizer() {
  const ScratchFolder folder;
  std::string text;
  Random random(7);
  const std::vector<std::string> words = {"the",
                                          " the",
                                          " there",
                                          " other",
                                          "hello",
                                          " world",
                                          " world's",
                                          " we'll",
                                          " 1234",
                                          " 12",
                                          "\n\n",
                                          "   ",
                                          " na\xC3\xAFve",
                                          " caf\xC3\xA9",
                                          "\xE6\x97\xA5\xE6\x9C\xAC",
                                          "\xF0\x9F\x98\x80",
                                          "...",
                                          "aaaa",
                                          "!!",
                                          " =="};
  for (int i = 0; i < 4000; ++i) {
    const std::size_t a = below(random, words.size());
    text += words[std::min(a, below(random, words.size()))];
  }
  const std::vector<std::filesystem::path> files = {folder.write("text.txt", text)};
  BpeTrainingOptions options;
  options.vocab_size = 256 + 70 + 1;
  return train_bpe(files, options);
}

/// That two tokenizers have the same tokens and give the same ids.
inline void check_same(const Tokenizer& a, const Tokenizer& b) {
  REQUIRE(a.vocab_size() == b.vocab_size());
  for (TokenId id = 0; id < a.vocab_size(); ++id) {
    REQUIRE(a.token_bytes(id) == b.token_bytes(id));
    REQUIRE(a.is_special(id) == b.is_special(id));
  }
  Random random(10);
  for (int round = 0; round < 200; ++round) {
    const std::string text = awkward_text(random, 20);
    REQUIRE(a.encode(text) == b.encode(text));
  }
}

using Merges = std::vector<std::pair<std::string, std::string>>;

/// The merges of a tokenizer that was saved.
inline Merges read_saved_merges(const std::filesystem::path& folder) {
  const std::string text = read_file(folder / "merges.txt");
  Merges merges;
  for (std::size_t at = text.find('\n') + 1; at < text.size();) {
    const std::size_t space = text.find(' ', at);
    const std::size_t end = text.find('\n', space);
    merges.emplace_back(text.substr(at, space - at), text.substr(space + 1, end - space - 1));
    at = end + 1;
  }
  return merges;
}

/// Joins the first listed pair, leftmost first, until none is left.
/// Names in the printable alphabet.
inline std::vector<std::string> blackboard_bpe(const Merges& merges, const std::string& piece) {
  std::map<std::pair<std::string, std::string>, std::size_t> rank;
  for (std::size_t i = 0; i < merges.size(); ++i) rank.emplace(merges[i], i);
  std::vector<std::string> tokens;
  for (const char byte : piece) tokens.push_back(printable({&byte, 1}));
  while (true) {
    std::size_t best = merges.size();
    std::size_t where = 0;
    for (std::size_t i = 0; i + 1 < tokens.size(); ++i) {
      const auto found = rank.find({tokens[i], tokens[i + 1]});
      if (found == rank.end() || found->second >= best) continue;
      best = found->second;
      where = i;
    }
    if (best == merges.size()) return tokens;
    tokens[where] += tokens[where + 1];
    tokens.erase(tokens.begin() + static_cast<std::ptrdiff_t>(where) + 1);
  }
}

/// The message of the Error that the call must throw.
template <typename Call>
std::string error_of(Call&& call) {
  try {
    call();
  } catch (const Error& error) {
    CHECK(error.fault() == Fault::bad_data);
    return error.message();
  }
  FAIL("no error");
  return {};
}

}  // namespace quire::test

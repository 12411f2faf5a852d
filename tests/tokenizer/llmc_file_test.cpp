// llm.c's tokenizer.bin, and the merges that are told from tokens alone.
#include "tokenizer/llmc_file.h"

#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>

#include "base/json.h"
#include "tests/tokenizer/helpers.h"
#include "tokenizer/derive_merges.h"

using namespace quire;
using namespace quire::test;
using nlohmann::json;
namespace fs = std::filesystem;

namespace {

/// A file of this header and these tokens, as llm.c writes it.
struct File {
  std::vector<std::int32_t> header = {20240328, 2, 0, 0};
  std::string tokens;

  explicit File(const std::vector<std::string>& of, int end_of_text) {
    for (const std::string& token : of) add(token);
    header[3] = end_of_text;
  }
  void add(const std::string& token) {
    tokens += static_cast<char>(token.size()) + token;
    ++header[2];
  }
  std::string text() const {
    std::string whole(1024, '\0');
    std::memcpy(whole.data(), header.data(), header.size() * sizeof header[0]);
    return whole + tokens;
  }
};

std::vector<std::string> bytes() {
  std::vector<std::string> tokens;
  for (const std::uint8_t byte : bytes_in_alphabet_order()) {
    tokens.emplace_back(1, static_cast<char>(byte));
  }
  return tokens;
}

std::vector<std::string> with(std::vector<std::string> tokens,
                              std::initializer_list<const char*> more) {
  tokens.insert(tokens.end(), more.begin(), more.end());
  return tokens;
}

Tokenizer loaded(const ScratchFolder& folder, const File& file) {
  return Tokenizer::load(folder.write("tokenizer.bin", file.text()));
}

}  // namespace

TEST_CASE("GPT-2's merges follow from its tokens") {
  QUIRE_FIXTURE(vocabulary, "gpt2-vocab");
  QUIRE_FIXTURE(path, "tokenizer/cases.jsonl");
  const Tokenizer original = Tokenizer::load(vocabulary);
  const ScratchFolder folder;
  CHECK(original.save_llmc(folder / "gpt2_tokenizer.bin"));
  CHECK(Tokenizer::exists(folder.path()));
  const Tokenizer tokenizer = Tokenizer::load(folder.path());
  CHECK(tokenizer.vocabulary().merges.size() == 50000);
  CHECK(tokenizer.vocabulary().merges == original.vocabulary().merges);
  std::ifstream file(path);
  int cases = 0;
  for (std::string line; std::getline(file, line); ++cases) {
    const json fixture = parse_json<json>(line);
    const bool special = fixture.value("special", true);
    REQUIRE(tokenizer.encode(fixture["text"].get<std::string>(),
                             special ? SpecialTokens::parse : SpecialTokens::plain) ==
            fixture["ids"].get<std::vector<TokenId>>());
  }
  CHECK(cases == 983);

  // Version 1 does not say which token ends a text: 50256 does.
  std::string first = read_file(folder / "gpt2_tokenizer.bin");
  first[4] = 1;
  std::fill_n(first.begin() + 12, 4, '\0');
  check_same(Tokenizer::load(folder.write("first.bin", first)), original);
}

TEST_CASE("llm.c's file of a tokenizer is the same tokenizer") {
  QUIRE_FIXTURE(llmc, "models/tiny-char-llmc");
  QUIRE_FIXTURE(transformers, "models/tiny-char");
  const Tokenizer original = Tokenizer::load(transformers);
  check_same(Tokenizer::load(llmc), original);
  check_same(Tokenizer::load(llmc / "tokenizer.bin"), original);
  CHECK(Tokenizer::exists(llmc / "tokenizer.bin"));
  CHECK_FALSE(Tokenizer::exists(llmc / "model_fp32.bin"));

  const ScratchFolder folder;
  CHECK(original.save_llmc(folder / "tokenizer.bin"));
  CHECK(read_file(folder / "tokenizer.bin") == read_file(llmc / "tokenizer.bin"));
  // What is read is written as transformers wants it.
  Tokenizer::load(llmc).save(folder / "again");
  CHECK(read_file(folder / "again/merges.txt") == read_file(transformers / "merges.txt"));
  CHECK(parse_json<json>(read_file(folder / "again/vocab.json")) ==
        parse_json<json>(read_file(transformers / "vocab.json")));
  CHECK(parse_json<json>(read_file(folder / "again/tokenizer.json"))["added_tokens"] ==
        parse_json<json>(read_file(transformers / "tokenizer.json"))["added_tokens"]);
}

TEST_CASE("tokens that were added to a vocabulary are told from its merges") {
  using Ids = std::vector<TokenId>;
  const ScratchFolder folder;
  // Behind the end of text, whatever they are made of; "<b" could be a merge.
  const File behind(with(bytes(), {"ab", "<|endoftext|>", "<b", "<|user|>"}), 257);
  const Tokenizer tokenizer = loaded(folder, behind);
  CHECK(tokenizer.encode("ab<b<|user|>ba<|endoftext|>") == Ids{256, 258, 259, 65, 64, 257});
  CHECK(tokenizer.is_special(259));
  CHECK(tokenizer.save_llmc(folder / "again.bin"));
  CHECK(read_file(folder / "again.bin") == behind.text());

  // The end of text before its merges, as tokenizers trains them: what no merge makes is last.
  std::vector<std::string> tokens = with({"<|endoftext|>"}, {});
  for (const std::string& byte : bytes()) tokens.push_back(byte);
  const Tokenizer first = loaded(folder, File(with(tokens, {"ab", "abc", "<|user|>"}), 0));
  CHECK(first.encode("abc<|user|><|endoftext|>ab") == Ids{258, 259, 0, 257});
  CHECK(first.vocabulary().merges == Merges{{"a", "b"}, {"ab", "c"}});

  // A byte that ends texts is no added token.
  const Tokenizer lines = loaded(folder, File(bytes(), 198));
  CHECK(lines.encode("a\n") == Ids{64, 198});
  CHECK_FALSE(lines.is_special(198));
}

TEST_CASE("a vocabulary whose ids do not tell its merges") {
  const ScratchFolder folder;
  Tokenizer::Vocabulary vocabulary;
  for (const std::string& byte : bytes()) vocabulary.tokens.push_back(printable(byte));
  for (const char* token : {"abc", "ab", "de", "<|endoftext|>"})
    vocabulary.tokens.emplace_back(token);
  vocabulary.merges = {{"a", "b"}, {"ab", "c"}, {"d", "e"}};
  vocabulary.special_tokens = {"<|endoftext|>"};
  const Tokenizer tokenizer = Tokenizer::from_vocabulary(vocabulary);
  CHECK_FALSE(tokenizer.save_llmc(folder / "tokenizer.bin"));
  const std::string error = error_of([&] { Tokenizer::load(folder.path()); });
  INFO(error);
  CHECK(contains(error, "tokenizer.bin: token 256 'abc' does not show which merge made it"));
  CHECK(contains(error, "leave 3 parts of it: 'a', 'b', 'c'"));
  CHECK(contains(error, "try: put the model's tokenizer.json"));
  // With the better files beside it, it is not looked at.
  tokenizer.save(folder.path());
  check_same(Tokenizer::load(folder.path()), tokenizer);
  // Two merges that make one token: the tokens tell of one alone.
  vocabulary.tokens = {};
  for (const std::string& byte : bytes()) vocabulary.tokens.push_back(printable(byte));
  for (const char* token : {"ab", "bc", "abc", "<|endoftext|>"})
    vocabulary.tokens.emplace_back(token);
  vocabulary.merges = {{"a", "b"}, {"b", "c"}, {"ab", "c"}, {"a", "bc"}};
  CHECK_FALSE(Tokenizer::from_vocabulary(vocabulary).save_llmc(folder / "two.bin"));
}

TEST_CASE("a tokenizer that llm.c's file has no place for") {
  const ScratchFolder folder;
  Tokenizer::Vocabulary vocabulary;
  for (const std::string& byte : bytes()) vocabulary.tokens.push_back(printable(byte));
  const auto refused = [&] {
    return error_of(
        [&] { Tokenizer::from_vocabulary(vocabulary).save_llmc(folder / "tokenizer.bin"); });
  };
  CHECK(contains(refused(), "no end-of-text token"));
  vocabulary.special_tokens = {"<|endoftext|>"};
  vocabulary.tokens.emplace_back("<|endoftext|>");
  vocabulary.tokens.push_back(std::string(256, 'a'));
  vocabulary.added_tokens = {{.content = std::string(256, 'a'), .id = 257}};
  CHECK(contains(refused(), "token 257 has 256 bytes"));
  CHECK_FALSE(fs::exists(folder / "tokenizer.bin"));
}

TEST_CASE("a tokenizer.bin that is broken is refused with its token") {
  const ScratchFolder folder;
  const auto refused = [&](const std::string& text, const std::string& reason) {
    const std::string file = folder.write("tokenizer.bin", text);
    const std::string error = error_of([&] { Tokenizer::load(folder.path()); });
    INFO(error);
    CHECK(error == error_of([&] { Tokenizer::load(file); }));
    CHECK(contains(error, file + ": "));
    CHECK(contains(error, reason));
  };
  const auto with_header = [&](std::size_t place, std::int32_t number) {
    File file(with(bytes(), {"ab", "<|endoftext|>"}), 257);
    file.header[place] = number;
    return file.text();
  };
  const std::string whole = with_header(1, 2);
  refused(whole.substr(0, 3), "not a tokenizer of llm.c");
  refused(whole.substr(0, 1000), "ends at byte 1000");
  refused(whole.substr(0, whole.size() - 1), "ends inside token 257 of 258");
  refused(whole.substr(0, whole.size() - 13), "ends inside token 257 of 258");
  refused(whole + "x", "goes on behind its 258 tokens");
  refused(with_header(0, 20240326), "does not begin with 20240328");
  refused(with_header(1, 3), "its version is 3");
  refused(with_header(2, 0), "claims 0 tokens");
  refused(with_header(2, -5), "claims -5 tokens");
  refused(with_header(2, INT32_MAX), "claims 2147483647 tokens");
  refused(with_header(2, 259), "ends inside token 258 of 259");
  refused(with_header(3, 258), "its end-of-text token has id 258");
  refused(with_header(3, -1), "its end-of-text token has id -1");
  refused(with_header(1, 1), "its end-of-text token has id 50256");
  refused(File(with(bytes(), {"ab", "", "<|endoftext|>"}), 258).text(), "token 257 is empty");
  refused(File(with(bytes(), {"ab", "ab", "<|endoftext|>"}), 258).text(),
          "token 'ab' is there twice");
  refused(File(with(bytes(), {"ab", "\xFF\xFE", "<|endoftext|>"}), 257).text(),
          "token 257 '\xC3\xBF\xC3\xBE' is not UTF-8");
  std::vector<std::string> without = bytes();
  without.erase(without.begin() + 32);
  refused(File(with(without, {"<|endoftext|>"}), 255).text(), "no token for byte 65");
}

// Added tokens of every kind, as tokenizers 0.23.1 finds them.
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/json.h"
#include "tests/tokenizer/helpers.h"

using namespace quire;
using namespace quire::test;
using nlohmann::json;

namespace {

json added(int id, const char* content, std::initializer_list<const char*> flags) {
  json token = {{"id", id}, {"content", content}};
  for (const char* flag : {"special", "single_word", "lstrip", "rstrip", "normalized"}) {
    token[flag] = false;
  }
  for (const char* flag : flags) token[flag] = true;
  return token;
}

/// The 256 bytes, no merges, and these tokens.
json tokenizer_json() {
  json vocabulary;
  for (int byte = 0; byte < 256; ++byte) {
    const char character = static_cast<char>(byte);
    vocabulary[printable({&character, 1})] = byte;
  }
  const json tokens = {added(256, "<|end|>", {"special"}),
                       added(257, "<s>", {"special", "lstrip", "rstrip"}),
                       added(258, "<s>user", {"normalized"}),
                       added(259, "cat", {"single_word"}),
                       added(260, "dog", {"single_word", "lstrip", "normalized"}),
                       added(261, "catalogue", {"normalized"}),
                       added(262, "end|", {"normalized"}),
                       added(263, "\xC3\xA9t\xC3\xA9", {"special", "single_word", "rstrip"})};
  return {{"added_tokens", tokens},
          {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}}},
          {"model", {{"type", "BPE"}, {"vocab", vocabulary}, {"merges", json::array()}}}};
}

/// The text with an added token as its id in brackets.
std::string shown(const Tokenizer& tokenizer, const char* text, SpecialTokens special) {
  std::string result;
  for (const TokenId id : tokenizer.encode(text, special)) {
    result += id < 256 ? std::string(tokenizer.token_bytes(id)) : "[" + std::to_string(id) + "]";
  }
  return result;
}

}  // namespace

TEST_CASE("added tokens are found as tokenizers finds them") {
  // A text, what it becomes, and what it becomes with encode_special_tokens: printed by tokenizers
  // 0.23.1 for the same tokenizer.json.
  struct Case {
    const char *text, *parsed, *plain;
  };
  const Case cases[] = {
      {"<s>user hi", "[257]user hi", "[258] hi"},
      {" <s> user", "[257]user", " <s> user"},
      {"<s>usercat", "[257]usercat", "[258]cat"},
      {"a cat", "a [259]", "a [259]"},
      {"cats cat. cat_ (cat)", "cats [259]. cat_ ([259])", "cats [259]. cat_ ([259])"},
      {"cat", "[259]", "[259]"},
      {"concat cat", "concat [259]", "concat [259]"},
      {"catalogue cat", "[261] [259]", "[261] [259]"},
      {"catcat", "catcat", "catcat"},
      {"a  dog dog", "a[260][260]", "a[260][260]"},
      {"dog<|end|>dog", "[260][256][260]", "[260]<|[262]>[260]"},
      {"hot\xCC\x81"
       "dog",
       "hot\xCC\x81"
       "dog",
       "hot\xCC\x81"
       "dog"},
      {"²dog dog²", "²[260][260]²", "²[260][260]²"},
      {"ⓐcat ①cat", "ⓐcat ①[259]", "ⓐcat ①[259]"},
      {"été  été", "[263][263]", "été  été"},
      {"<|end|>end|", "[256][262]", "<|[262]>[262]"},
      {"<|end|  dog", "<|[262][260]", "<|[262][260]"},
      {"cat\xE2\x80\x8D"
       "dog",
       "cat\xE2\x80\x8D"
       "dog",
       "cat\xE2\x80\x8D"
       "dog"},
      {" \t <s>\n dog \n", "[257][260] \n", " \t <s>[260] \n"},
      {"dogcat dog", "dogcat[260]", "dogcat[260]"},
      {"l'été ", "l'[263]", "l'été "},
      {"中cat \xE3\x80\x80"
       "dog",
       "中cat[260]", "中cat[260]"},
  };
  const ScratchFolder folder;
  folder.write("tokenizer.json", json_text(tokenizer_json()));
  const Tokenizer read = Tokenizer::load(folder.path());
  read.save(folder / "again");
  for (const Tokenizer& tokenizer : {read, Tokenizer::load(folder / "again")}) {
    for (const Case& c : cases) {
      CHECK(shown(tokenizer, c.text, SpecialTokens::parse) == c.parsed);
      CHECK(shown(tokenizer, c.text, SpecialTokens::plain) == c.plain);
    }
  }
}

TEST_CASE("a token of spaces that another one took along is not found again") {
  json tokenizer = tokenizer_json();
  tokenizer["added_tokens"] = {added(256, "ab", {"rstrip"}),
                               added(257, "  ", {"lstrip", "rstrip"})};
  const ScratchFolder folder;
  folder.write("tokenizer.json", json_text(tokenizer));
  const Tokenizer read = Tokenizer::load(folder.path());
  // Printed by tokenizers 0.23.3.
  for (const auto& [text, expected] :
       {std::pair("ab  ", "[256]"), std::pair("ab   x  ", "[256]x[257]"),
        std::pair("x    y", "x[257]y"), std::pair("  ab  ", "[257][256]"),
        std::pair("a     ab     ab", "a[257][256][256]"), std::pair("ab ab    ", "[256][256]"),
        std::pair(" \n  \n ", "[257]")}) {
    CHECK(shown(read, text, SpecialTokens::parse) == expected);
  }
}

TEST_CASE("a special token is found before a longer one that is matched second") {
  QUIRE_CASE(folder, "added");
  using Ids = std::vector<TokenId>;
  CHECK(Tokenizer::load(folder).encode("<|im_start|>user hi") == Ids{50257, 7220, 23105});
}

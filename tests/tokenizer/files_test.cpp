#include <nlohmann/json.hpp>

#include "base/json.h"
#include "tests/tokenizer/helpers.h"

using namespace quire;
using namespace quire::test;
using nlohmann::json;
namespace fs = std::filesystem;

namespace {

/// A folder with the small tokenizer's files, to be damaged.
struct Files : ScratchFolder {
  Files() { small_tokenizer().save(path()); }
  json read(const char* name) const { return parse_json<json>(read_file(*this / name)); }
  std::string load_error() const {
    return error_of([&] { Tokenizer::load(path()); });
  }
  /// Leaves vocab.json + merges.txt alone in the folder.
  void without_tokenizer_json() const { fs::remove(*this / "tokenizer.json"); }
};

}  // namespace

TEST_CASE("a saved tokenizer loads from each form of its files") {
  const Tokenizer original = small_tokenizer();
  const ScratchFolder folder;
  original.save(folder.path());
  check_same(original, Tokenizer::load(folder.path()));
  check_same(original, Tokenizer::load(folder / "tokenizer.json"));
  CHECK(Tokenizer::exists(folder.path()));
  CHECK(Tokenizer::exists(folder / "tokenizer.json"));

  fs::remove(folder / "tokenizer.json");
  check_same(original, Tokenizer::load(folder.path()));
  fs::remove(folder / "tokenizer_config.json");
  fs::remove(folder / "special_tokens_map.json");
  check_same(original, Tokenizer::load(folder.path()));

  fs::rename(folder / "vocab.json", folder / "encoder.json");
  fs::rename(folder / "merges.txt", folder / "vocab.bpe");
  check_same(original, Tokenizer::load(folder.path()));
  fs::remove(folder / "encoder.json");
  CHECK_FALSE(Tokenizer::exists(folder.path()));
}

TEST_CASE("GPT-2's vocabulary comes back unchanged from a save") {
  QUIRE_FIXTURE(vocabulary, "gpt2-vocab");
  const ScratchFolder folder;
  const Tokenizer tokenizer = Tokenizer::load(vocabulary);
  CHECK(tokenizer.vocab_size() == 50257);
  CHECK(tokenizer.end_of_text() == 50256);
  CHECK(tokenizer.encode("Hello world") == std::vector<TokenId>{15496, 995});
  tokenizer.save(folder.path());
  CHECK(read_file(folder / "merges.txt") == read_file(vocabulary / "merges.txt"));
  const auto parsed = [](const fs::path& path) { return parse_json<json>(read_file(path)); };
  CHECK(parsed(folder / "vocab.json") == parsed(vocabulary / "vocab.json"));
  const json ours = parsed(folder / "tokenizer.json");
  const json theirs = parsed(vocabulary / "tokenizer.json");
  CHECK(ours["model"]["vocab"] == theirs["model"]["vocab"]);
  CHECK(ours["model"]["merges"] == theirs["model"]["merges"]);
  CHECK(ours["added_tokens"] == theirs["added_tokens"]);
  check_same(tokenizer, Tokenizer::load(folder.path()));
}

TEST_CASE("OpenAI's names of the files are read") {
  QUIRE_FIXTURE(openai, "models/tiny-char-tf");
  QUIRE_FIXTURE(transformers, "models/tiny-char");
  check_same(Tokenizer::load(openai), Tokenizer::load(transformers));
}

TEST_CASE("Windows line ends and a byte-order mark do no harm") {
  const Files files;
  files.without_tokenizer_json();
  std::string merges = "\xEF\xBB\xBF";
  for (const char c : read_file(files / "merges.txt")) {
    if (c == '\n') merges += '\r';
    merges += c;
  }
  files.write("merges.txt", merges);
  files.write("vocab.json", "\xEF\xBB\xBF" + read_file(files / "vocab.json"));
  check_same(small_tokenizer(), Tokenizer::load(files.path()));
}

TEST_CASE("merges written as single strings are read") {
  const Files files;
  json tree = files.read("tokenizer.json");
  for (json& merge : tree["model"]["merges"]) {
    merge = merge[0].get<std::string>() + " " + merge[1].get<std::string>();
  }
  files.write("tokenizer.json", json_text(tree));
  check_same(small_tokenizer(), Tokenizer::load(files.path()));
}

TEST_CASE("added tokens keep their ids, flags and roles through load and save") {
  const Files files;
  json tree = files.read("tokenizer.json");
  tree["added_tokens"].push_back({{"id", 327}, {"content", "<pad>"}, {"special", true}});
  tree["added_tokens"].push_back(
      {{"id", 328}, {"content", "<mask>"}, {"special", true}, {"lstrip", true}, {"rstrip", true}});
  tree["added_tokens"].push_back({{"id", 329}, {"content", "caf\xC3\xA9"}, {"special", false}});
  files.write("tokenizer.json", json_text(tree));
  json configuration = files.read("tokenizer_config.json");
  configuration["pad_token"] = {{"content", "<pad>"}};
  files.write("tokenizer_config.json", json_text(configuration));

  const ScratchFolder again;
  Tokenizer::load(files.path()).save(again.path(), 256);
  const json saved = parse_json<json>(read_file(again / "tokenizer_config.json"));
  CHECK(saved["pad_token"] == "<pad>");
  CHECK(saved["eos_token"] == "<|endoftext|>");
  CHECK(saved["model_max_length"] == 256);
  for (const bool whole_file : {true, false}) {
    if (!whole_file) fs::remove(again / "tokenizer.json");
    const Tokenizer tokenizer = Tokenizer::load(again.path());
    CHECK(tokenizer.vocab_size() == 330);
    using Ids = std::vector<TokenId>;
    CHECK(tokenizer.encode("<pad> <mask> \n<pad>") == Ids{327, 328, 327});
    CHECK(tokenizer.encode(" <mask> <mask> ") == Ids{328, 328});
    CHECK(tokenizer.encode("caf\xC3\xA9", SpecialTokens::plain) == Ids{329});
    CHECK(tokenizer.encode("<pad>", SpecialTokens::plain).size() > 1);
    CHECK(tokenizer.token_bytes(329) == "caf\xC3\xA9");
    CHECK(tokenizer.is_special(328));
    CHECK_FALSE(tokenizer.is_special(329));
  }
}

TEST_CASE("added_tokens.json and special_tokens_map.json of older folders are read") {
  const Files files;
  files.without_tokenizer_json();
  fs::remove(files / "tokenizer_config.json");
  files.write("added_tokens.json", R"({"[PAD]": 328, "[SEP]": 327})");
  files.write("special_tokens_map.json",
              R"({"pad_token": "[PAD]", "unk_token": "[UNKNOWN TO ALL]",
                 "additional_special_tokens": [{"content": "[SEP]"}]})");
  const Tokenizer tokenizer = Tokenizer::load(files.path());
  CHECK(tokenizer.encode("[SEP][PAD]") == std::vector<TokenId>{327, 328});
  CHECK(tokenizer.is_special(327));
  CHECK(tokenizer.is_special(328));
  CHECK(tokenizer.is_special(*tokenizer.end_of_text()));
}

TEST_CASE("flags of added tokens stand in tokenizer_config.json") {
  // A folder without tokenizer.json, as the slow tokenizers of transformers 4 save it.
  const Files files;
  files.without_tokenizer_json();
  files.write("added_tokens.json", R"({"<mask>": 327, "plain": 328})");
  json configuration = files.read("tokenizer_config.json");
  configuration["added_tokens_decoder"]["327"] = {
      {"content", "<mask>"}, {"special", true}, {"lstrip", true}};
  files.write("tokenizer_config.json", json_text(configuration));
  const Tokenizer tokenizer = Tokenizer::load(files.path());
  CHECK(tokenizer.encode(" <mask>plain") == std::vector<TokenId>{327, 328});
  CHECK(tokenizer.is_special(327));
  CHECK_FALSE(tokenizer.is_special(328));
}

TEST_CASE("a tokenizer comes back from its parts") {
  const Tokenizer original = small_tokenizer();
  const Tokenizer again = Tokenizer::from_vocabulary(original.vocabulary());
  check_same(again, original);
  CHECK(again.vocabulary().merges == original.vocabulary().merges);
  CHECK(again.vocabulary().roles == original.vocabulary().roles);
  CHECK(original.vocabulary().roles.size() == 3);
}

TEST_CASE("special tokens are looked for together") {
  Tokenizer::Vocabulary vocabulary = small_tokenizer().vocabulary();
  const auto first = static_cast<TokenId>(vocabulary.tokens.size());
  constexpr int kMany = 200000;  // one after the other they took minutes
  vocabulary.added_tokens.push_back({.content = "<1>", .id = first + 1, .special = false});
  for (int i = 0; i < kMany; ++i) {
    vocabulary.tokens.push_back("<" + std::to_string(i) + ">");
    if (i % 3 != 0) vocabulary.special_tokens.push_back(vocabulary.tokens.back());
  }
  vocabulary.special_tokens.push_back("<1>");
  const Tokenizer tokenizer = Tokenizer::from_vocabulary(vocabulary);
  int wrong = 0;
  for (int i = 0; i < kMany; ++i) wrong += tokenizer.is_special(first + i) != (i % 3 != 0);
  CHECK(wrong == 0);
  CHECK(tokenizer.encode("<1><2>") == std::vector<TokenId>{first + 1, first + 2});

  vocabulary.special_tokens.push_back("<none>");
  vocabulary.special_tokens.push_back("<neither>");
  CHECK(contains(error_of([&] { Tokenizer::from_vocabulary(vocabulary); }), "'<none>' is not in"));
}

TEST_CASE("tokens are added behind the last id") {
  using Ids = std::vector<TokenId>;
  const Tokenizer original = small_tokenizer();
  const Tokenizer more =
      original.with_added({{.content = "<|user|>"},
                           {.content = "the cat", .special = false},
                           {.content = "<|user|>"},
                           {.content = " the", .special = false},
                           {.content = "\xC4\xA0the", .special = false}},
                          {{"pad_token", "<|user|>"}, {"eos_token", "<|user|>"}});
  CHECK(more.vocab_size() == original.vocab_size() + 3);
  CHECK(more.encode("<|user|>the cat") == Ids{327, 328});
  CHECK(more.is_special(327));
  CHECK_FALSE(more.is_special(328));
  const TokenRoles roles = {{"bos_token", "<|endoftext|>"},
                            {"eos_token", "<|user|>"},
                            {"unk_token", "<|endoftext|>"},
                            {"pad_token", "<|user|>"}};
  CHECK(more.vocabulary().roles == roles);
  // One that was added as text becomes special.
  CHECK(more.with_added({{.content = "the cat"}}).is_special(328));

  const ScratchFolder folder;
  more.save(folder.path());
  check_same(Tokenizer::load(folder.path()), more);
  fs::remove(folder / "tokenizer.json");
  check_same(Tokenizer::load(folder.path()), more);
  CHECK(Tokenizer::load(folder.path()).vocabulary().roles == roles);

  CHECK_THROWS_AS(original.with_added({{.content = ""}}), Error);
  CHECK_THROWS_AS(original.with_added({}, {{"pad_token", "<|none|>"}}), Error);
}

TEST_CASE("missing files are named") {
  const ScratchFolder empty;
  CHECK(contains(error_of([&] { Tokenizer::load(empty.path()); }),
                 "no tokenizer in " + empty.path().string()));
  CHECK(contains(error_of([&] { Tokenizer::load(empty / "none"); }), "does not exist"));
  const Files files;
  files.without_tokenizer_json();
  fs::remove(files / "merges.txt");
  CHECK(contains(files.load_error(), "merges.txt: no such file"));
}

TEST_CASE("a vocabulary that is not one is refused with its reason") {
  const Files files;
  files.without_tokenizer_json();
  json vocabulary = files.read("vocab.json");
  const auto refused = [&](const std::string& content, const std::string& reason) {
    files.write("vocab.json", content);
    INFO(files.load_error());
    CHECK(contains(files.load_error(), "vocab.json"));
    CHECK(contains(files.load_error(), reason));
  };
  const std::string whole = json_text(vocabulary);
  refused("", "not valid JSON");
  refused(whole.substr(0, whole.size() / 2), "line 1, column");
  refused("[]", "not a vocabulary");
  refused("{\"a\": \"b\"}", "the id of token 'a' is not a number");
  refused("{\"a\": {}}", "the id of token 'a' is not a number");
  refused("{\"a\": 99999999999}", "has id 99999999999");
  refused("{\"a\": -1}", "has id -1");
  refused("{}", "no token has id 0");
  json changed = vocabulary;
  changed["B"] = 32;
  refused(json_text(changed), "id 32 is given twice");
  changed = vocabulary;
  changed.erase("\xC4\xA0");
  refused(json_text(changed), "no token has id 220");
  changed["new"] = 220;
  refused(json_text(changed), "no token for byte 32");
  refused("{\"!\": 327, " + whole.substr(1), "is there twice");
}

TEST_CASE("merges that do not fit the vocabulary are refused with their line") {
  const Files files;
  files.without_tokenizer_json();
  const auto refused = [&](const std::string& lines, const std::string& reason) {
    files.write("merges.txt", "#version: 0.2\n" + lines);
    INFO(files.load_error());
    CHECK(contains(files.load_error(), reason));
    CHECK(contains(files.load_error(), "try: "));
  };
  refused("a a\nqqq a\n", "merges.txt:3: merge of 'qqq' and 'a'");
  refused("a a\nqqq a\n", "it has no token 'qqq'");
  refused("a zzz\n", "it has no token 'zzz'");
  refused("q !\n", "it has no token 'q!'");
  refused("a a\na a\n", "stands further up");
  refused("a a\n\na a\n", "merges.txt:3: not a merge");
  refused("a\n", "merges.txt:2: not a merge");
  refused("a  a\n", "merges.txt:2: not a merge");
  refused("a a a\n", "merges.txt:2: not a merge");
  refused(" a\n", "merges.txt:2: not a merge");
}

TEST_CASE("a tokenizer.json of another kind is refused") {
  const Files files;
  const json whole = files.read("tokenizer.json");
  const auto refused = [&](const char* pointer, const json& value, const std::string& reason) {
    json changed = whole;
    changed[json::json_pointer(pointer)] = value;
    files.write("tokenizer.json", json_text(changed));
    INFO(files.load_error());
    CHECK(contains(files.load_error(), reason));
    CHECK(contains(files.load_error(), "tokenizer.json"));
  };
  refused("/normalizer", {{"type", "NFC"}}, "the normalizer is 'NFC'");
  refused("/pre_tokenizer", {{"type", "Metaspace"}}, "the pre_tokenizer is 'Metaspace'");
  refused("/pre_tokenizer", nullptr, "the pre_tokenizer is 'null'");
  refused("/pre_tokenizer/add_prefix_space", true, "add_prefix_space");
  refused("/pre_tokenizer/use_regex", false, "not ByteLevel with its regex");
  refused("/post_processor", {{"type", "RobertaProcessing"}}, "adds tokens");
  refused("/model/type", "Unigram", "the model is 'Unigram'");
  refused("/model/type", 7, "'type' is 7");
  refused("/model/byte_fallback", true, "byte_fallback");
  refused("/model/dropout", 0.1, "dropout");
  refused("/model/end_of_word_suffix", "</w>", "end_of_word_suffix");
  refused("/model/vocab", nullptr, "no object 'vocab'");
  refused("/model/merges", nullptr, "no list 'merges'");
  refused("/model/merges/0", {"a"}, "merge 1 is not a pair");
  refused("/model/merges/0", 3, "merge 1 is not a pair");
  refused("/model/merges/1", "a b c", "merge 2 is not a pair");
  refused("/model/merges/0", {"a", "qqq"}, "merge 1 of 'a' and 'qqq'");
  refused("/added_tokens/0", 5, "an added token is 5");
  refused("/added_tokens/0/id", 400, "no token has id");
  refused("/added_tokens/0/content", "", "");
  refused("/added_tokens/0/single_word", "yes", "single_word");
  files.write("tokenizer.json", "[1, 2]");
  CHECK(contains(files.load_error(), "not a JSON object"));
}

TEST_CASE("parts that are no vocabulary are refused") {
  Tokenizer::Vocabulary vocabulary;
  CHECK(contains(error_of([&] { Tokenizer::from_vocabulary(vocabulary); }), "no token for byte 0"));
  for (const std::uint8_t byte : bytes_in_alphabet_order()) {
    const char character = static_cast<char>(byte);
    vocabulary.tokens.push_back(printable({&character, 1}));
  }
  CHECK(Tokenizer::from_vocabulary(vocabulary).encode("ab") == std::vector<TokenId>{64, 65});
  vocabulary.special_tokens = {"<|endoftext|>"};
  CHECK(contains(error_of([&] { Tokenizer::from_vocabulary(vocabulary); }), "<|endoftext|>"));
}

// One tokenizer from wherever a model's format keeps it, and what is wrong with one inside a GGUF.
#include "pipeline/model_tokenizer.h"

#include <algorithm>
#include <functional>
#include <map>
#include <utility>

#include "pipeline/model_path.h"
#include "tests/tokenizer/helpers.h"

using namespace quire;
using namespace quire::test;
namespace fs = std::filesystem;

namespace {

template <class T>
std::string raw(T number) {
  return {reinterpret_cast<const char*>(&number), sizeof number};
}
std::string as_string(const std::string& text) {
  return raw(std::uint64_t{text.size()}) + text;
}

/// A GGUF file of a GPT-2 of one table, with what `entries` has besides.
struct GgufFile {
  std::map<std::string, std::string> entries;  // name -> type and value
  int rows = 0;

  void text(const std::string& name, const std::string& value) {
    entries[name] = raw(8u) + as_string(value);
  }
  void number(const std::string& name, std::uint32_t value) {
    entries[name] = raw(4u) + raw(value);
  }
  void texts(const std::string& name, const std::vector<std::string>& values) {
    std::string all;
    for (const std::string& value : values) all += as_string(value);
    entries[name] = raw(9u) + raw(8u) + raw(std::uint64_t{values.size()}) + all;
  }
  void types(const std::vector<int>& values) {
    std::string all;
    for (const int value : values) all += raw(value);
    entries["tokenizer.ggml.token_type"] =
        raw(9u) + raw(5u) + raw(std::uint64_t{values.size()}) + all;
  }

  std::string whole() const {
    GgufFile file = *this;
    file.text("general.architecture", "gpt2");
    for (const auto& [name, value] :
         {std::pair("block_count", 1u), std::pair("context_length", 8u),
          std::pair("embedding_length", 4u), std::pair("feed_forward_length", 16u),
          std::pair("attention.head_count", 2u)}) {
      file.number(std::string("gpt2.") + name, value);
    }
    file.entries["gpt2.attention.layer_norm_epsilon"] = raw(6u) + raw(1e-5f);
    std::string text =
        "GGUF" + raw(3u) + raw(std::uint64_t{1}) + raw(std::uint64_t{file.entries.size()});
    for (const auto& [name, value] : file.entries) text += as_string(name) + value;
    text += as_string("token_embd.weight") + raw(2u) + raw(std::uint64_t{4}) +
            raw(static_cast<std::uint64_t>(rows)) + raw(0u) + raw(std::uint64_t{0});
    text.resize((text.size() + 31) / 32 * 32);
    return text + std::string(static_cast<std::size_t>(rows) * 4 * sizeof(float), '\0');
  }
};

/// The small tokenizer as GGUF has it, in a model with three rows more.
GgufFile small_gguf(const GgufVocabulary& vocabulary) {
  GgufFile file;
  std::vector<std::string> tokens = vocabulary.tokens;
  std::vector<int> types = vocabulary.types;
  for (int more = 0; more < 3; ++more) {
    tokens.push_back("[PAD" + std::to_string(tokens.size()) + "]");
    types.push_back(GgufVocabulary::kUnused);
  }
  file.rows = static_cast<int>(tokens.size());
  file.text("tokenizer.ggml.model", "gpt2");
  file.text("tokenizer.ggml.pre", vocabulary.pre);
  file.texts("tokenizer.ggml.tokens", tokens);
  file.types(types);
  file.texts("tokenizer.ggml.merges", vocabulary.merges);
  for (const auto& [name, id] :
       {std::pair("bos", vocabulary.bos), std::pair("eos", vocabulary.eos),
        std::pair("unknown", vocabulary.unknown), std::pair("padding", vocabulary.padding)}) {
    if (id)
      file.number(std::string("tokenizer.ggml.") + name + "_token_id", static_cast<unsigned>(*id));
  }
  return file;
}

Tokenizer with_tokens() {
  return small_tokenizer().with_added(
      {{.content = "<|user|>"}, {.content = "the cat", .special = false, .second = true}},
      {{"pad_token", "<|user|>"}});
}

}  // namespace

TEST_CASE("every form of a model has the same tokenizer") {
  QUIRE_FIXTURE(transformers, "models/tiny-char");
  QUIRE_FIXTURE(llmc, "models/tiny-char-llmc");
  QUIRE_FIXTURE(gguf, "models/tiny-char-gguf");
  QUIRE_FIXTURE(tensorflow, "models/tiny-char-tf");
  QUIRE_FIXTURE(text, "data/tinyshakespeare/input.txt");
  const Tokenizer original = Tokenizer::load(transformers);
  const std::string lines = read_file(text).substr(0, 200000);
  const std::vector<TokenId> ids = original.encode(lines);
  for (const fs::path& model :
       {transformers, transformers / "model.safetensors", transformers / "config.json",
        transformers / "tokenizer.json", llmc, llmc / "model_fp32.bin", llmc / "tokenizer.bin",
        gguf / "tiny-char-f32.gguf", gguf / "tiny-char-f16.gguf", gguf / "tiny-char-q8_0.gguf",
        tensorflow}) {
    INFO(model);
    REQUIRE(has_tokenizer(model));
    check_same(tokenizer_of(model), original);
    CHECK(tokenizer_of(model).encode(lines) == ids);
    CHECK(named_tokenizer(model.string()).encode(lines) == ids);
    CHECK(Tokenizer::exists(tokenizer_place(model)) == (model.extension() != ".gguf"));
    CHECK(tokenizer_of(model).vocabulary().roles == original.vocabulary().roles);
  }
}

TEST_CASE("the vocabulary that GGUF gets is the one that llama.cpp's converter wrote") {
  QUIRE_FIXTURE(transformers, "models/tiny-char");
  QUIRE_FIXTURE(path, "models/tiny-char-gguf/tiny-char-f32.gguf");
  const Gguf file(path);
  for (const Tokenizer& tokenizer : {Tokenizer::load(transformers), gguf_tokenizer(file)}) {
    const GgufVocabulary ours = gguf_vocabulary(tokenizer);
    const auto same = [&](const char* name, const std::vector<std::string>& strings) {
      const std::vector<std::string_view>& theirs = file.strings(name);
      CHECK(std::equal(theirs.begin(), theirs.end(), strings.begin(), strings.end()));
    };
    same("tokenizer.ggml.tokens", ours.tokens);
    same("tokenizer.ggml.merges", ours.merges);
    CHECK(ours.types == file.integers("tokenizer.ggml.token_type"));
    CHECK(ours.pre == file.metadata().at("tokenizer.ggml.pre"));
    CHECK(ours.bos == 999);
    CHECK(ours.eos == 999);
    CHECK(ours.unknown == 999);
    CHECK_FALSE(ours.padding);
  }
}

TEST_CASE("added tokens and roles go through GGUF, and rows that are no token's do not") {
  const ScratchFolder folder;
  const Tokenizer tokenizer = with_tokens();
  const fs::path file = folder.write("model.gguf", small_gguf(gguf_vocabulary(tokenizer)).whole());
  for (const fs::path& model : {file, folder.path()}) {
    const Tokenizer read = tokenizer_of(model);
    check_same(read, tokenizer);
    const Tokenizer::Vocabulary a = read.vocabulary(), b = tokenizer.vocabulary();
    CHECK(a.merges == b.merges);
    CHECK(a.roles == b.roles);
    using Ids = std::vector<TokenId>;
    CHECK(read.encode("<|user|>the cat") == Ids{327, 328});
    CHECK(read.is_special(327));
    CHECK_FALSE(read.is_special(328));
  }
  // In a folder, better files than a model's are beside it; named by itself, its own.
  small_tokenizer().save(folder.path());
  CHECK(tokenizer_of(folder.path()).vocab_size() == 327);
  CHECK(tokenizer_of(file).vocab_size() == 329);
}

TEST_CASE("a line's end that ends texts stays an ordinary token") {
  const ScratchFolder folder;
  GgufVocabulary vocabulary = gguf_vocabulary(small_tokenizer());
  vocabulary.eos = 198;
  const Tokenizer read = tokenizer_of(folder.write("model.gguf", small_gguf(vocabulary).whole()));
  CHECK(read.token_bytes(198) == "\n");
  CHECK_FALSE(read.is_special(198));
  // Files without types have special tokens by their roles alone.
  vocabulary.eos = 326;
  GgufFile file = small_gguf(vocabulary);
  file.entries.erase("tokenizer.ggml.token_type");
  check_same(tokenizer_of(folder.write("model.gguf", file.whole())),
             small_tokenizer().with_added({{.content = "[PAD327]", .special = false},
                                           {.content = "[PAD328]", .special = false},
                                           {.content = "[PAD329]", .special = false}}));
}

TEST_CASE("a tokenizer in a GGUF file that is broken is refused with its entry") {
  const ScratchFolder folder;
  const GgufVocabulary vocabulary = gguf_vocabulary(with_tokens());
  const auto refused = [&](
                           const std::string& reason,
                           const std::function<void(GgufVocabulary&)>& change,
                           const std::function<void(GgufFile&)>& change_file = [](GgufFile&) {}) {
    GgufVocabulary broken = vocabulary;
    change(broken);
    GgufFile file = small_gguf(broken);
    change_file(file);
    const std::string path = folder.write("model.gguf", file.whole());
    const std::string error = error_of([&] { gguf_tokenizer(Gguf(path)); });
    INFO(error);
    CHECK(contains(error, path + ": "));
    CHECK(contains(error, reason));
  };
  const auto nothing = [](GgufVocabulary&) {};
  refused("token 'a' is there twice", [](GgufVocabulary& v) { v.tokens[300] = "a"; });
  refused("entry 5 of tokenizer.ggml.tokens is empty", [](GgufVocabulary& v) { v.tokens[5] = ""; });
  refused("entry 6 of tokenizer.ggml.tokens is not UTF-8",
          [](GgufVocabulary& v) { v.tokens[6] = "\xFF"; });
  refused("no token for byte 33, written '!'", [](GgufVocabulary& v) { v.tokens[0] = "!!!!"; });
  refused("entry 2 of tokenizer.ggml.merges is not a pair",
          [](GgufVocabulary& v) { v.merges[2] = "ab"; });
  refused("entry 2 of tokenizer.ggml.merges is not a pair",
          [](GgufVocabulary& v) { v.merges[2] = "a b c"; });
  refused("entry 2 of tokenizer.ggml.merges is not a pair",
          [](GgufVocabulary& v) { v.merges[2] = " a"; });
  refused("merge 1 of 'a' and 'zzzz' does not fit",
          [](GgufVocabulary& v) { v.merges[0] = "a zzzz"; });
  refused("stands further up", [](GgufVocabulary& v) { v.merges[1] = v.merges[0]; });
  refused("entry 4 of tokenizer.ggml.token_type is 9", [](GgufVocabulary& v) { v.types[4] = 9; });
  refused("tokenizer.ggml.tokens has 332 entries, tokenizer.ggml.token_type has 331",
          [](GgufVocabulary& v) { v.types.pop_back(); });
  refused("tokenizer.ggml.eos_token_id is 332", [](GgufVocabulary& v) { v.eos = 332; });
  refused("tokenizer.ggml.padding_token_id is 400", [](GgufVocabulary& v) { v.padding = 400; });
  refused("cuts text into pieces as 'llama-bpe'", [](GgufVocabulary& v) { v.pre = "llama-bpe"; });
  refused("its tokenizer is 'llama'", nothing,
          [](GgufFile& f) { f.text("tokenizer.ggml.model", "llama"); });
  refused("has no merges", nothing, [](GgufFile& f) {
    f.entries.erase("tokenizer.ggml.merges");
    f.entries.erase("tokenizer.ggml.token_type");
  });
  refused("has no tokenizer", nothing,
          [](GgufFile& f) { f.entries.erase("tokenizer.ggml.tokens"); });
}

TEST_CASE("a GGUF file with bytes changed has a tokenizer that works, or is refused") {
  const ScratchFolder folder;
  const std::string whole = small_gguf(gguf_vocabulary(with_tokens())).whole();
  const std::size_t end = whole.find("token_embd.weight");
  Random random(4);
  int refused = 0, read = 0;
  for (int round = 0; round < 1500; ++round) {
    std::string changed = whole;
    for (std::size_t edits = 1 + below(random, 3); edits > 0; --edits) {
      changed[below(random, end)] = static_cast<char>(random());
    }
    const std::string path = folder.write("model.gguf", changed);
    try {
      const Tokenizer tokenizer = gguf_tokenizer(Gguf(path));
      for (const TokenId id : tokenizer.encode("the <|user|>the cat \n world's 1234")) {
        REQUIRE(id < tokenizer.vocab_size());
      }
      ++read;
    } catch (const Error& error) {
      REQUIRE(error.fault() == Fault::bad_data);
      ++refused;
    }
  }
  CHECK(refused > 0);
  CHECK(read > 0);
}

TEST_CASE("where there is no tokenizer, or several") {
  const ScratchFolder folder;
  GgufFile file;
  file.rows = 3;
  const fs::path path = folder.write("a.gguf", file.whole());
  CHECK_FALSE(has_tokenizer(path));
  CHECK_FALSE(has_tokenizer(folder.path()));
  CHECK(
      contains(error_of([&] { tokenizer_of(path); }), "no tokenizer in " + folder.path().string()));
  folder.write("b.gguf", file.whole());
  CHECK(contains(error_of([&] { tokenizer_of(folder.path()); }), "a.gguf and b.gguf"));
  CHECK_FALSE(
      has_tokenizer(folder.write("c.bin", "")));  // theirs is not that of a file beside them
  folder.write("config.json", "{}");
  CHECK_FALSE(has_tokenizer(folder.path()));

  Tokenizer::Vocabulary vocabulary = small_tokenizer().vocabulary();
  vocabulary.whole_pieces_first = true;
  CHECK(contains(error_of([&] { gguf_vocabulary(Tokenizer::from_vocabulary(vocabulary)); }),
                 "GGUF has no place"));
}

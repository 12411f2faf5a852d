// tests/tokenizer/fuzz_test.cpp drives it with inputs of its own.
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "base/error.h"
#include "base/file.h"
#include "base/utf8.h"
#include "tests/fuzz/targets.h"
#include "tokenizer/byte_alphabet.h"
#include "tokenizer/tokenizer.h"

namespace {

using namespace quire;

void require(bool condition) {
  if (!condition) std::abort();
}

const Tokenizer& fuzzed_tokenizer() {
  static const Tokenizer tokenizer = [] {
    Tokenizer::Vocabulary vocabulary;
    for (const std::uint8_t byte : bytes_in_alphabet_order()) {
      const char character = static_cast<char>(byte);
      vocabulary.tokens.push_back(printable({&character, 1}));
    }
    const auto merge = [&](const char* left, const char* right) {
      vocabulary.merges.emplace_back(printable(left), printable(right));
      vocabulary.tokens.push_back(printable(left) + printable(right));
    };
    merge("a", "a");
    merge("aa", "aa");
    merge(" ", "a");
    merge(" ", " ");
    merge("\xE6", "\x97");
    merge("\xE6\x97", "\xA5");
    merge("'", "s");
    vocabulary.tokens.push_back("<|endoftext|>");
    vocabulary.special_tokens.push_back("<|endoftext|>");
    return Tokenizer::from_vocabulary(vocabulary);
  }();
  return tokenizer;
}

/// Encoding loses nothing but what is not UTF-8; streams equal the whole.
void check_text(std::string_view bytes) {
  const Tokenizer& tokenizer = fuzzed_tokenizer();
  std::string text;
  utf8::append_replacing_invalid(bytes, text);
  require(utf8::valid_prefix(text) == text.size());
  for (const SpecialTokens mode : {SpecialTokens::parse, SpecialTokens::plain}) {
    const std::vector<TokenId> ids = tokenizer.encode(bytes, mode);
    require(tokenizer.encode(text, mode) == ids);
    require(tokenizer.decode(ids) == text);
  }
}

/// Any sequence of ids decodes, and the stream of it is the same text.
void check_ids(std::string_view bytes) {
  const Tokenizer& tokenizer = fuzzed_tokenizer();
  std::vector<TokenId> ids;
  for (const char byte : bytes) {
    ids.push_back(static_cast<unsigned char>(byte) % tokenizer.vocab_size());
  }
  StreamDecoder stream(tokenizer);
  std::string streamed;
  for (const TokenId id : ids) streamed += stream.push(id);
  streamed += stream.finish();
  require(streamed == tokenizer.decode(ids));
}

/// A saved tokenizer, once as tokenizer.json and once as vocab.json + merges.txt. The files are
/// replaced without syncing them to disk, which would take most of the time.
class SavedFiles {
 public:
  SavedFiles() {
    fuzzed_tokenizer().save(folder_ / "whole");
    fuzzed_tokenizer().save(folder_ / "pair");
    std::filesystem::remove(folder_ / "pair" / "tokenizer.json");
  }
  SavedFiles(const SavedFiles&) = delete;
  SavedFiles& operator=(const SavedFiles&) = delete;
  ~SavedFiles() { std::filesystem::remove_all(folder_); }

  void load_with(std::string_view bytes, const std::string& name) const {
    const auto folder = folder_ / (name == "tokenizer.json" ? "whole" : "pair");
    const std::string good = read_file(folder / name);
    replace(folder / name, bytes);
    try {
      Tokenizer::load(folder).encode("some text");
    } catch (const Error& error) {
      require(error.fault() == Fault::bad_data);
    }
    replace(folder / name, good);
  }

 private:
  static void replace(const std::filesystem::path& path, std::string_view bytes) {
    std::filesystem::remove(path);  // ext4 syncs a file that is truncated and written again
    std::ofstream(path, std::ios::binary) << bytes;
  }

  std::filesystem::path folder_ = std::filesystem::temp_directory_path() /
                                  ("quire-tokenizer-fuzz-" + std::to_string(::getpid()));
};

/// Any file is read or refused with an Error.
void check_file(std::string_view bytes, const std::string& name) {
  static const SavedFiles files;
  files.load_with(bytes, name);
}

}  // namespace

int fuzz_tokenizer(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view rest(reinterpret_cast<const char*>(data) + 1, size - 1);
  switch (data[0] % 8) {
    case 0:
      check_file(rest, "vocab.json");
      break;
    case 1:
      check_file(rest, "merges.txt");
      break;
    case 2:
      check_file(rest, "tokenizer.json");
      break;
    case 3:
      check_file(rest, "tokenizer_config.json");
      break;
    case 4:
      check_ids(rest);
      break;
    default:
      check_text(rest);
  }
  return 0;
}

#ifdef QUIRE_LIBFUZZER
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  return fuzz_tokenizer(data, size);
}
#endif

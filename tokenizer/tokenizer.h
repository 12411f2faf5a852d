// GPT-2's byte-level BPE tokenizer: text to ids and back.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace quire {

using TokenId = std::int32_t;

/// How encode() takes the text of a special token ("<|endoftext|>") that stands in the input.
enum class SpecialTokens {
  parse,  ///< as that token's id, longest match first
  plain,  ///< as ordinary characters
};

/// Immutable after loading and safe to use from several threads at once. Cheap to copy.
class Tokenizer {
 public:
  /// Reads tokenizer.json, or vocab.json + merges.txt, or encoder.json + vocab.bpe from a folder;
  /// a path to a tokenizer.json works too. Throws Error(bad_data): file, line, what is wrong.
  static Tokenizer load(const std::filesystem::path& folder);
  /// True when the folder holds a tokenizer's files.
  static bool exists(const std::filesystem::path& folder);
  /// From the parts: token strings in GPT-2's printable byte alphabet, index = id; merges as pairs
  /// in order of priority; special tokens by name.
  struct Vocabulary {
    std::vector<std::string> tokens;
    std::vector<std::pair<std::string, std::string>> merges;
    std::vector<std::string> special_tokens;
  };
  static Tokenizer from_vocabulary(const Vocabulary& vocabulary);

  /// Bytes that are not UTF-8 are read as U+FFFD, one for each maximal invalid part.
  std::vector<TokenId> encode(std::string_view text,
                              SpecialTokens special = SpecialTokens::parse) const;
  void encode(std::string_view text, SpecialTokens special, std::vector<TokenId>& append_to) const;

  /// The bytes of the tokens joined, invalid UTF-8 replaced by U+FFFD.
  std::string decode(std::span<const TokenId> ids, bool skip_special_tokens = false) const;
  /// The raw bytes of one token. Throws Error(bad_data) for an id outside the vocabulary.
  std::string_view token_bytes(TokenId id) const;

  int vocab_size() const;
  std::optional<TokenId> token_to_id(std::string_view token) const;  ///< special tokens too
  bool is_special(TokenId id) const;
  std::optional<TokenId> end_of_text() const;  ///< the id of "<|endoftext|>"

  /// Writes vocab.json, merges.txt, tokenizer.json, tokenizer_config.json and
  /// special_tokens_map.json, as transformers reads them.
  void save(const std::filesystem::path& folder, int model_max_length = 1024) const;

  struct Impl;

 private:
  explicit Tokenizer(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}
  std::shared_ptr<const Impl> impl_;
};

/// Decodes a stream of tokens without cutting characters: each push() returns the text that is
/// certain so far; finish() the rest, an unfinished character as U+FFFD. Concatenated, they are
/// decode() of all ids.
class StreamDecoder {
 public:
  explicit StreamDecoder(Tokenizer tokenizer, bool skip_special_tokens = false)
      : tokenizer_(std::move(tokenizer)), skip_special_tokens_(skip_special_tokens) {}
  std::string push(TokenId id);
  std::string finish();

 private:
  Tokenizer tokenizer_;
  bool skip_special_tokens_;
  std::string pending_;  // bytes of an unfinished character
};

struct BpeTrainingOptions {
  int vocab_size = 8000;  ///< including the 256 bytes and the special tokens
  int min_frequency = 2;  ///< pairs seen less often are not merged
  std::vector<std::string> special_tokens = {"<|endoftext|>"};
  int threads = 0;  ///< 0 = all cores; the result does not depend on it
};

/// Learns a vocabulary from files that may be larger than memory: they are split into pieces and
/// only distinct pieces are kept. Special tokens get the last ids.
Tokenizer train_bpe(std::span<const std::filesystem::path> files,
                    const BpeTrainingOptions& options);

}  // namespace quire

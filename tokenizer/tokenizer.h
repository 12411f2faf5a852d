// GPT-2's byte-level BPE tokenizer: text to ids and back.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/added_tokens.h"

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
  /// Reads tokenizer.json, or vocab.json + merges.txt, or encoder.json + vocab.bpe, or llm.c's
  /// tokenizer.bin from a folder; a path to a tokenizer.json or a tokenizer.bin works too. Throws
  /// Error(bad_data): file, line or token, what is wrong.
  static Tokenizer load(const std::filesystem::path& folder);
  /// True when the folder holds a tokenizer's files, or the file is one.
  static bool exists(const std::filesystem::path& folder);
  /// All of it in parts.
  struct Vocabulary {
    /// By id: in GPT-2's printable byte alphabet, added tokens as they are.
    std::vector<std::string> tokens;
    std::vector<std::pair<std::string, std::string>> merges;  ///< in order of priority
    std::vector<std::string> special_tokens;                  ///< some of the tokens, by name
    std::vector<AddedToken> added_tokens;   ///< some of the tokens, of which more is to be said
    TokenRoles roles;                       ///< {"eos_token", "<|endoftext|>"}
    bool whole_pieces_first = false;        ///< a piece that is a token is not made of merges
    std::string source = "the vocabulary";  ///< the file that it is from, for messages
  };
  /// Throws Error(bad_data): what does not fit together.
  static Tokenizer from_vocabulary(const Vocabulary& vocabulary);
  /// The same again: all special tokens are among the added ones, roles are GPT-2's where none were
  /// given.
  Vocabulary vocabulary() const;
  /// With more tokens behind the last id. One that is there keeps its id, and becomes special where
  /// the added one is. Their ids are not looked at. `roles` replace those of the same name. Throws
  /// Error(usage) for an empty one, and for a role of a token that is not there.
  Tokenizer with_added(const std::vector<AddedToken>& tokens, const TokenRoles& roles = {}) const;

  /// Bytes that are not UTF-8 are read as U+FFFD, one for each maximal invalid part.
  std::vector<TokenId> encode(std::string_view text,
                              SpecialTokens special = SpecialTokens::parse) const;
  void encode(std::string_view text, SpecialTokens special, std::vector<TokenId>& append_to) const;
  /// The same ids in order, each given once, as soon as there are some: mostly 4,000 at a time, in
  /// memory that is used again for the next.
  void encode(std::string_view text, SpecialTokens special,
              const std::function<void(std::span<const TokenId>)>& take) const;

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
  /// Writes llm.c's tokenizer.bin (tokenizer/llmc_file.h). False where the merges cannot be told
  /// from it, so that it decodes but does not encode. Throws Error(bad_data) for tokens that it has
  /// no place for, and without an end-of-text token.
  bool save_llmc(const std::filesystem::path& file) const;

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

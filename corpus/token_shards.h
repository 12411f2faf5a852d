// Token shards: a data set tokenized ahead of time, to be mapped into memory and trained on.
//
// A prepared folder holds shard-00000.tokens, shard-00001.tokens, … and manifest.json, which is
// written last: a folder without it was not finished. token_shards.cpp describes the format.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "base/byte_spill.h"
#include "base/file.h"
#include "corpus/records.h"

namespace quire {

inline constexpr const char* kShardExtension = ".tokens";
inline constexpr const char* kShardManifest = "manifest.json";

/// What two tokenizers agree in that give every text the same ids: a hash over all tokens in the
/// order of their ids, and over which of them are special.
std::uint64_t tokenizer_fingerprint(const Tokenizer& tokenizer);

/// Vocabularies of so many ids at most have ids of 16 bits: 65535 is free
/// to stand for an ignored label.
inline constexpr int kNarrowVocabulary = 65'535;

/// Ids as they lie in a shard: of 16 bits or 32.
using ShardIds = std::variant<std::span<const std::int32_t>, std::span<const std::uint16_t>>;

/// One shard, mapped. Move-only.
class TokenShard {
 public:
  /// Reads all of it once, for its checksum. Throws Error(bad_data) naming file and cause.
  explicit TokenShard(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return file_.path(); }
  std::int64_t records() const { return std::ssize(offsets_) - 1; }
  std::int64_t tokens() const { return offsets_.back(); }
  std::span<const std::int64_t> offsets() const { return offsets_; }  ///< records + 1, from 0
  ShardIds ids() const { return ids_; }
  std::optional<ShardIds> labels() const { return labels_; }  ///< none: same as ids
  int vocab_size() const { return vocab_size_; }
  std::uint64_t tokenizer() const { return tokenizer_; }  ///< its fingerprint
  std::uint64_t checksum() const { return checksum_; }

 private:
  MappedFile file_;
  std::span<const std::int64_t> offsets_;
  ShardIds ids_;
  std::optional<ShardIds> labels_;
  int vocab_size_ = 0;
  std::uint64_t tokenizer_ = 0, checksum_ = 0;
};

/// Whether a path is a shard, or a folder that holds some.
bool is_prepared(const std::filesystem::path& path);
/// The shards of prepared folders and single shards, in order. Throws Error(bad_data) for a folder
/// that was not finished or of which shards are missing or others than its manifest says, and where
/// they do not belong to one tokenizer.
std::vector<TokenShard> open_shards(const std::vector<std::string>& paths);
/// Throws Error(bad_data) unless the shards were made with this tokenizer.
void check_tokenizer(const std::vector<TokenShard>& shards, const Tokenizer& tokenizer);

/// Gathers records and writes a shard whenever enough are there. Memory does not grow with either:
/// what a shard gets lies in files without a name, in its folder, until it is whole. While it is
/// written, it takes twice its size on the disk.
class ShardWriter {
 public:
  /// `shard_tokens`: a shard ends with the record that reaches so many.
  ShardWriter(std::filesystem::path folder, const Tokenizer& tokenizer, std::int64_t shard_tokens);

  /// A record that the corpus does not end is gone on with by the next one's first.
  void add(const TokenizedCorpus& corpus);
  /// Writes what is left. Afterwards the folder wants its manifest.
  void finish();

  struct Written {
    std::string file;
    std::int64_t records = 0, tokens = 0;
    std::uint64_t checksum = 0;
  };
  const std::vector<Written>& shards() const { return shards_; }
  std::int64_t records() const;
  std::int64_t tokens() const;
  bool labelled() const { return labelled_; }  ///< whether any shard has labels
  int bytes_per_id() const { return narrow_ ? 2 : 4; }
  std::uint64_t tokenizer() const { return tokenizer_; }

 private:
  void add_ids(ByteSpill& to, std::span<const std::int32_t> ids);
  void write_shard();

  std::filesystem::path folder_;
  int vocab_size_;
  bool narrow_;
  std::uint64_t tokenizer_;
  std::int64_t shard_tokens_;
  // Of the shard in the making. labels_ is empty until a record brings some.
  ByteSpill offsets_, ids_, labels_;
  std::vector<std::uint16_t> narrowed_;
  std::int64_t shard_records_ = 0;
  bool labelled_ = false;
  std::vector<Written> shards_;
};

}  // namespace quire

// Token shards: a data set tokenized ahead of time, to be mapped into memory and trained on.
//
// A prepared folder holds shard-00000.tokens, shard-00001.tokens, … and manifest.json, which is
// written last: a folder without it was not finished. shards.cpp describes the format.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "base/byte_spill.h"
#include "base/file.h"
#include "tokens/view.h"

namespace quire {

inline constexpr const char* kShardExtension = ".tokens";
inline constexpr const char* kShardManifest = "manifest.json";

/// The tokenizer that ids come from.
struct ShardVocabulary {
  int size = 0;  ///< ids are below it
  /// A hash over all tokens in the order of their ids, and over which of them are special: two
  /// tokenizers that agree in it give every text the same ids.
  std::uint64_t fingerprint = 0;
  bool operator==(const ShardVocabulary&) const = default;
};

/// One shard, mapped. Move-only.
class TokenShard {
 public:
  /// Reads all of it once, for its checksum. Throws Error(bad_data) naming file and cause.
  explicit TokenShard(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return file_.path(); }
  std::span<const std::int64_t> offsets() const { return offsets_; }  ///< records + 1, from 0
  using Ids = std::variant<std::span<const std::uint16_t>, std::span<const std::int32_t>>;
  const Ids& ids() const { return ids_; }
  const std::optional<Ids>& labels() const { return labels_; }  ///< none: the ids
  const ShardVocabulary& vocabulary() const { return vocabulary_; }
  std::uint64_t checksum() const { return checksum_; }

 private:
  MappedFile file_;
  std::span<const std::int64_t> offsets_;
  Ids ids_;
  std::optional<Ids> labels_;
  ShardVocabulary vocabulary_;
  std::uint64_t checksum_ = 0;
};

/// Whether a path is a shard, or a folder that holds some.
bool is_prepared(const std::filesystem::path& path);
/// The shards of prepared folders and single shards, in order. Throws Error(bad_data) for a folder
/// that was not finished or of which shards are missing or others than its manifest says, and where
/// they do not belong to one tokenizer.
std::vector<TokenShard> open_shards(const std::vector<std::string>& paths);
/// Throws Error(bad_data) unless the shards were made with this tokenizer.
void check_tokenizer(const std::vector<TokenShard>& shards, const ShardVocabulary& tokenizer);
/// All of their records, one shard's after the other's. The view keeps the shards.
TokenView view_of(std::shared_ptr<const std::vector<TokenShard>> shards);

/// Gathers records and writes a shard whenever enough are there. Memory does not grow with either:
/// what a shard gets lies in files without a name, in its folder, until it is whole. While it is
/// written, it takes twice its size on the disk.
class ShardWriter {
 public:
  /// `shard_tokens`: a shard ends with the record that reaches so many.
  ShardWriter(std::filesystem::path folder, const ShardVocabulary& vocabulary,
              std::int64_t shard_tokens);

  /// A record that the part does not end is gone on with by the next one's first.
  void add(const TokenRecords& part);
  /// Writes what is left. Afterwards the folder wants its manifest.
  void finish();
  /// Writes it, and returns it: what the shards are, and what is told beside of their text:
  /// how much that was, and what it was made of.
  nlohmann::ordered_json write_manifest(const nlohmann::ordered_json& text,
                                        const nlohmann::ordered_json& origin) const;

  struct Written {
    std::string file;
    std::int64_t records = 0, tokens = 0;
    std::uint64_t checksum = 0;
  };
  const std::vector<Written>& shards() const { return shards_; }
  std::int64_t records() const { return records_; }  ///< of these
  std::int64_t tokens() const { return tokens_; }
  bool labelled() const { return labelled_; }  ///< whether any shard has labels
  int bytes_per_id() const { return narrow_ ? 2 : 4; }

 private:
  void write_shard();

  std::filesystem::path folder_;
  ShardVocabulary vocabulary_;
  bool narrow_;
  std::int64_t shard_tokens_;
  // Of the shard in the making. labels_ is empty until a record brings some.
  ByteSpill offsets_, ids_, labels_;
  std::int64_t shard_records_ = 0;
  // Of all that are written.
  std::int64_t records_ = 0, tokens_ = 0;
  bool labelled_ = false;
  std::vector<Written> shards_;
};

}  // namespace quire

// Token records on their way from text into training: gathered, spilled beyond 4 MiB, split, viewed.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "base/byte_spill.h"
#include "corpus/records.h"
#include "corpus/token_shards.h"
#include "tokens/view.h"

namespace quire {

struct TrainData {
  TokenView train, validation;
  HeldOut held_out;  ///< where one was split in two: of all records in their order
};

/// Gathers the records of a corpus that comes in parts. Memory does not grow with them: ids of 16
/// bits where the vocabulary allows (token_shards.h), else 32, labels of 32 bits where there are any,
/// and where records begin lie in files without names.
class TokenStore {
 public:
  /// Of a tokenizer with `vocab_size` ids; 0: of ids that nobody vouches for.
  explicit TokenStore(int vocab_size)
      : narrow_(vocab_size > 0 && vocab_size <= kNarrowVocabulary) {}

  /// A record that the part does not end is gone on with by the next one's first.
  void add(const TokenizedCorpus& part);

  std::int64_t records() const { return records_; }
  std::int64_t tokens() const { return ids_; }
  TokenStream ids() const;
  TokenStream labels() const;  ///< empty when all labels equal the ids
  /// `records()` + 1, once the last record has been ended.
  RecordOffsets offsets() const { return RecordOffsets(offset_bytes_); }

 private:
  int bytes_per_id() const { return narrow_ ? 2 : 4; }
  void add_offset(std::int64_t offset);

  bool narrow_;
  std::int64_t ids_ = 0, records_ = 0;
  std::optional<std::int64_t> labels_from_;  // before this place they are the ids
  ByteSpill id_bytes_, label_bytes_, offset_bytes_;
  std::vector<std::uint16_t> narrowed_;
};

/// The two parts as views, which keep what they view. Nothing is copied but where records begin.
TrainData split_views(const std::shared_ptr<const TokenStore>& store, double validation_share,
                      std::uint64_t seed, OnlyRecord only);
TrainData split_views(const std::shared_ptr<const std::vector<TokenShard>>& shards,
                      double validation_share, std::uint64_t seed, OnlyRecord only);

}  // namespace quire

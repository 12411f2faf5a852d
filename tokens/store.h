// Token ids that come in parts: gathered, and spilled beyond 4 MiB.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "base/byte_spill.h"
#include "tokens/view.h"

namespace quire {

/// Appends ids: of 16 bits each where they are `narrow`, else of 32.
void add_ids(ByteSpill& to, std::span<const std::int32_t> ids, bool narrow);

/// Memory does not grow with the records: ids of 16 bits where the vocabulary allows, else 32,
/// labels of 32 bits where there are any, and where records begin lie in files without names.
class TokenStore {
 public:
  /// Of a tokenizer with `vocab_size` ids; 0: of ids that nobody vouches for.
  explicit TokenStore(int vocab_size);

  /// A record that the part does not end is gone on with by the next one's first.
  void add(const TokenRecords& part);

  /// All records, once the last has been ended. The view keeps the store.
  friend TokenView view_of(std::shared_ptr<const TokenStore> store);

 private:
  int bytes_per_id() const { return narrow_ ? 2 : 4; }

  bool narrow_;
  std::int64_t ids_ = 0;
  std::optional<std::int64_t> labels_from_;  // before this place they are the ids
  ByteSpill id_bytes_, label_bytes_, offset_bytes_;
};
TokenView view_of(std::shared_ptr<const TokenStore> store);

}  // namespace quire

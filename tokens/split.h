// Records in two parts: what is trained on, and what is held out to validate on.
#pragma once

#include <cstdint>
#include <vector>

#include "tokens/view.h"

namespace quire {

/// What is held out of a record that is the only one, or a book among few.
enum class OnlyRecord {
  cut,   ///< its beginning: its end, where a model learns to stop, stays to be learnt
  keep,  ///< nothing of the only one, the whole of others
};

/// What is held out for validation.
struct HeldOut {
  std::vector<bool> records;  ///< one for each: whether it is
  std::int64_t cut = 0;       ///< of one that is not, so many ids from its beginning
  std::size_t cut_record = 0;
};

/// Splits by record: a seeded shuffle chooses round(records · share) of them, at least one and not
/// all where there are two; both sides keep the order. Where the share is less than one, the chosen
/// record has no more than half of all tokens. With OnlyRecord::cut, where the chosen ones have
/// more than one and a half times the share of all tokens, and that is enough to score (1,024), the
/// largest of them are held out in part or not at all: one of six books may be a third of them.
/// Equal seeds give equal splits everywhere. Throws Error(usage) unless 0 <= share < 1.
HeldOut hold_out(const RecordOffsets& records, double validation_share, std::uint64_t seed,
                 OnlyRecord only);

struct TrainData {
  TokenView train, validation;
  HeldOut held_out;  ///< where one was split in two: of all records in their order
};

/// The two parts as views, which keep what they view. Nothing is copied but where records begin.
/// `all` must not be a part itself.
TrainData split(const TokenView& all, double validation_share, std::uint64_t seed,
                OnlyRecord only = OnlyRecord::cut);

}  // namespace quire

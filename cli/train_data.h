// From the options of `quire train` to token records, training and validation.
#pragma once

#include <optional>
#include <string>

#include "cli/train_options.h"
#include "tokenizer/tokenizer.h"
#include "tokens/batches.h"
#include "tokens/split.h"

namespace quire {

/// Throws what load_train_data() would throw for paths where there is nothing to read.
void check_train_data(const TrainOptions& options);

/// Reads and tokenizes text, a batch at a time, or maps shards, and splits; or reads what to
/// validate on from files of its own, which are left out where --data names their folder. Without a
/// tokenizer every record must bring its ids. Throws Error(bad_data) or,
/// for text without a tokenizer and for options that make nothing of shards, Error(usage).
TrainData load_train_data(const TrainOptions& options, const std::optional<Tokenizer>& tokenizer);

/// Where records have rows of their own, the end of the only one is not parted from its beginning.
OnlyRecord only_record(Packing packing);

/// Says what of the data is not learnt from, or not validated on: records that are cut, and a
/// held-out part that is empty or has nothing to score.
void tell_unused(const TrainOptions& options, const Rows& rows, const Rows& validation_rows);
/// "2 records are longer than a row of 256 tokens: 1,024 of their 1,536 tokens are not used".
std::string unused_text(const Rows& rows);

}  // namespace quire

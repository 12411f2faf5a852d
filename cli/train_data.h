// From the options of `quire train` to token records, training and validation.
#pragma once

#include <optional>
#include <string>

#include "cli/train_options.h"
#include "tokenizer/tokenizer.h"

namespace quire {

struct TrainData {
  TokenRecords train, validation;
};

/// Reads, tokenizes and splits. Without a tokenizer every record must bring its ids.
/// Throws Error(bad_data) or, for text without a tokenizer, Error(usage).
TrainData load_train_data(const TrainOptions& options, const std::optional<Tokenizer>& tokenizer);

}  // namespace quire

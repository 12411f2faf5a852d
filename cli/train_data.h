// From the options of `quire train` to token records, training and validation.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cli/train_options.h"
#include "corpus/token_shards.h"
#include "tokenizer/tokenizer.h"

namespace quire {

struct TrainData {
  TokenView train, validation;
};

/// Throws what load_train_data() would throw for paths where there is nothing to read.
void check_train_data(const CorpusOptions& corpus);

/// Reads and tokenizes text, or maps shards, and splits. Without a tokenizer every record must
/// bring its ids. Throws Error(bad_data) or, for text without a tokenizer and for options that make
/// nothing of shards, Error(usage).
TrainData load_train_data(const TrainOptions& options, const std::optional<Tokenizer>& tokenizer);

/// The two parts as views, which keep what they view. Nothing is copied but where records begin.
TrainData split_views(const std::shared_ptr<const TokenizedCorpus>& corpus, double validation_share,
                      std::uint64_t seed);
TrainData split_views(const std::shared_ptr<const std::vector<TokenShard>>& shards,
                      double validation_share, std::uint64_t seed);

}  // namespace quire

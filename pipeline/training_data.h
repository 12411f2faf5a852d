// From the options of a training run to token records, training and validation.
#pragma once

#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "corpus/reading_report.h"
#include "pipeline/train_options.h"
#include "tokenizer/tokenizer.h"
#include "tokens/batches.h"
#include "tokens/split.h"

namespace quire {

using ToldFiles = std::function<void(std::size_t files)>;

/// What is to be said of data while it is read.
struct DataCallbacks {
  /// What reading came upon, once for the data and once for what is validated on.
  std::function<void(const ReadingReport&)> on_read = [](const ReadingReport&) {};
  std::function<void(const std::vector<StepCount>&)> on_cleaned = [](const auto&) {};
  /// Files of the data that are validated on, and so not learnt from.
  ToldFiles on_left_out = [](std::size_t) {};
};

/// The files of `paths` without those to validate on, which often lie in the same folder;
/// `on_left_out` is told how many these are. `report` gets what of folders is passed over. Throws
/// Error(usage) where nothing is left, Error(bad_data) as find_files() does.
std::vector<std::string> without_validation(const std::vector<std::string>& paths,
                                            const std::vector<std::string>& validation_paths,
                                            ReadingReport& report, const ToldFiles& on_left_out);

/// Throws what load_train_data() would throw for paths where there is nothing to read.
void check_train_data(const TrainOptions& options);

/// Reads and tokenizes text, a batch at a time, or maps shards, and splits; or reads what to
/// validate on from files of its own, which are left out where --data names their folder. Without a
/// tokenizer every record must bring its ids. Throws Error(bad_data) or,
/// for text without a tokenizer and for options that make nothing of shards, Error(usage).
TrainData load_train_data(const TrainOptions& options, const std::optional<Tokenizer>& tokenizer,
                          const DataCallbacks& callbacks);

/// Where records have rows of their own, the end of the only one is not parted from its beginning.
OnlyRecord only_record(Packing packing);

/// "2 records are longer than a row of 256 tokens: 1,024 of their 1,536 tokens are not used".
std::string unused_text(const Rows& rows);

}  // namespace quire

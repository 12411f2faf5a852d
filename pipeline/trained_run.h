// The training run that made a model, as quire_config.json in its folder tells: the data it read, and
// the part that it held out. For commands that ask what the model makes of that part alone.
#pragma once

#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "corpus/records.h"
#include "pipeline/train_options.h"
#include "pipeline/training_data.h"
#include "tokenizer/tokenizer.h"

namespace quire {

class TrainedRun {
 public:
  /// Reads and splits the run's data anew. `run` is what model_path.h resolves to its output folder,
  /// or a checkpoint in it; `options` are those that stand in its quire_config.json; `validation`:
  /// the part is what was held out, else what was learned from. Throws Error(usage) where the part is
  /// empty, and what load_train_data() throws.
  TrainedRun(std::string run, bool validation, TrainOptions options,
             const DataCallbacks& callbacks);

  /// The part's records as they were trained or validated on.
  const TokenView& tokens() const { return validation_ ? data_.validation : data_.train; }
  const Tokenizer& tokenizer() const { return tokenizer_; }
  /// Tokens of a row it was trained on, beyond which its positions were not learned; 0: the context.
  int block_size() const { return options_.training.block_size; }
  /// Its records as text, in order; of one that was held out in part neither part. With
  /// `as_completion` they have prompt_bytes, whatever was learnt of them. Throws Error(usage) for
  /// shards.
  std::vector<Record> records(bool as_completion) const;
  /// The lines of a table of the run's data at which these begin. Throws Error(usage) where the run
  /// did not read that table, or where none is of it.
  std::set<std::size_t> lines_of(const std::filesystem::path& table) const;
  /// "data that out held out".
  std::string title() const;

 private:
  CorpusOptions corpus(bool as_completion) const;
  void for_each_of_part(const CorpusOptions& corpus, const TakeRecord& take) const;

  std::string run_;
  bool validation_;
  TrainOptions options_;
  ToldFiles on_left_out_;
  Tokenizer tokenizer_;
  TrainData data_;
};

}  // namespace quire

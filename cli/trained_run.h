// The training run that made a model, as quire_config.json in its folder tells: the data it read, and
// the part that it held out. For commands that ask what the model makes of that part alone.
#pragma once

#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "cli/flags.h"
#include "cli/train_data.h"
#include "cli/train_options.h"
#include "corpus/records.h"

namespace quire {

/// --split and --run, for every command that works on a part of a run's data.
struct SplitFlags {
  std::string split = "none";  ///< "validation", "train", or "none": not asked for
  std::string run;             ///< empty: that of --model

  void add_to(Flags& flags, const std::string& help);
  bool asked() const { return split != "none"; }
};

class TrainedRun {
 public:
  /// Reads and splits the run's data anew, `data` instead of the paths that it names where there are
  /// any. `run` is the run's output folder, or a checkpoint in it. Throws Error(usage) where it has no
  /// quire_config.json, or where the part is empty, and what load_train_data() throws.
  TrainedRun(const SplitFlags& flags, const std::string& model,
             const std::vector<std::string>& data);

  /// The part's records as they were trained or validated on.
  const TokenView& tokens() const { return validation_ ? data_.validation : data_.train; }
  const Tokenizer& tokenizer() const { return *tokenizer_; }
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
  std::optional<Tokenizer> tokenizer_;
  TrainData data_;
};

}  // namespace quire

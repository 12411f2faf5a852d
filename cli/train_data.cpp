#include "cli/train_data.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/text.h"
#include "cli/corpus_flags.h"
#include "cli/get_model.h"
#include "cli/terminal.h"

namespace quire {
namespace {

/// `get_tokenizer`: why there is none, and how to get one.
TokenizedCorpus corpus_of_ids(const std::vector<Record>& records,
                              const std::vector<std::string>& get_tokenizer) {
  TokenizedCorpus corpus;
  bool labelled = false;
  for (const Record& record : records) {
    if (record.input_ids.empty()) {
      throw Error(
          Fault::usage, "text cannot be trained on without a tokenizer", get_tokenizer,
          fmt::format("--tokenizer DIR, the folder of a model; --tokenizer {} needs nothing",
                      kBundledModel));
    }
    labelled |= !record.labels.empty();
  }
  for (const Record& record : records) {
    const std::vector<std::int32_t>& labels =
        record.labels.empty() ? record.input_ids : record.labels;
    corpus.ids.insert(corpus.ids.end(), record.input_ids.begin(), record.input_ids.end());
    if (labelled) corpus.labels.insert(corpus.labels.end(), labels.begin(), labels.end());
    corpus.offsets.push_back(static_cast<std::int64_t>(corpus.ids.size()));
  }
  return corpus;
}

/// Shards hold ids: what would make other ones of the text comes too late.
void refuse_text_options(const CorpusOptions& corpus) {
  const char* late = !corpus.text_column.empty()          ? "--text-column"
                     : !corpus.template_text.empty()      ? "--template"
                     : corpus.line_by_line                ? "--line-by-line"
                     : !corpus.document_separator.empty() ? "--document-separator"
                     : corpus.loss_on_completion          ? "--loss-on completion"
                     : !corpus.cleaning.steps.empty()     ? "--clean"
                     : !corpus.format.encoding.empty()    ? "--encoding"
                     : corpus.format.delimiter != 0       ? "--delimiter"
                     : !corpus.format.header              ? "--no-header"
                                                          : nullptr;
  if (late == nullptr) return;
  throw Error(Fault::usage, std::string(late) + " does nothing to shards",
              {corpus.paths[0] + " was tokenized by quire data prepare, which takes this option"},
              "without " + std::string(late) + ", or prepare the text again with it");
}

bool are_prepared(const std::vector<std::string>& paths) {
  return std::any_of(paths.begin(), paths.end(),
                     [](const auto& path) { return is_prepared(path); });
}

}  // namespace

OnlyRecord only_record(Packing packing) {
  return packing == Packing::stream ? OnlyRecord::cut : OnlyRecord::keep;
}

std::string unused_text(const Rows& rows, int block_size) {
  return fmt::format(
      "{} longer than a row of {}: {} of {} {} {} not used",
      rows.cut_records() == 1 ? "1 record is" : with_commas(rows.cut_records()) + " records are",
      counted(block_size, "token"), with_commas(rows.unused_tokens()),
      rows.cut_records() == 1 ? "its" : "their", counted(rows.cut_tokens(), "token"),
      rows.unused_tokens() == 1 ? "is" : "are");
}

void tell_unused(const TrainData& data, const TrainOptions& options, const TrainingConfig& config,
                 const Rows& rows, const Rows& validation_rows) {
  const bool separate = !options.validation_paths.empty();
  const std::string next = "\n  try: --overflow split, or a larger --block-size";
  if (rows.unused_tokens() > 0) warn(unused_text(rows, config.block_size) + next);
  if (separate && validation_rows.unused_tokens() > 0) {
    warn("of --validation-file " + unused_text(validation_rows, config.block_size) + next);
  }
  if (config.packing == Packing::stream && config.overflow != Overflow::truncate) {
    note(fmt::format("--overflow {} changes nothing: --packing stream uses every token",
                     name_of(config.overflow)));
  }
  if (options.validation_split <= 0 && !separate) return;
  if (data.validation.size() == 0) {
    note("nothing is held out: there is no second record, so there will be no validation loss");
  } else if (validation_rows.targets() == 0) {
    warn(
        fmt::format("nothing of what is held out can be scored ({} without a target): there will "
                    "be no validation loss\n  try: {}",
                    counted(data.validation.size(), "record"),
                    separate ? "another --validation-file"
                             : "another --data-seed, or a larger --validation-split"));
  }
}

void check_train_data(const TrainOptions& options) {
  for (const auto* paths : {&options.corpus.paths, &options.validation_paths}) {
    if (paths->empty()) continue;
    if (are_prepared(*paths)) {
      open_shards(*paths);
    } else {
      find_files(*paths);
    }
  }
}

namespace {

/// What was read: shards, or the ids of a text.
struct Tokens {
  std::shared_ptr<const std::vector<TokenShard>> shards;
  std::shared_ptr<const TokenStore> store;

  TrainData split(double validation_share, std::uint64_t seed, OnlyRecord only) const {
    return shards != nullptr ? split_views(shards, validation_share, seed, only)
                             : split_views(store, validation_share, seed, only);
  }
  TokenView all() const { return split(0, 0, OnlyRecord::keep).train; }
};

Tokens read_tokens(CorpusOptions corpus, const TrainOptions& options,
                   const std::optional<Tokenizer>& tokenizer, ReadingReport& report) {
  if (are_prepared(corpus.paths)) {
    auto shards = std::make_shared<const std::vector<TokenShard>>(open_shards(corpus.paths));
    if (tokenizer) check_tokenizer(*shards, *tokenizer);
    return {.shards = std::move(shards), .store = nullptr};
  }
  // Text is tokenized as it is read: memory holds a batch of it.
  const auto store = std::make_shared<TokenStore>(tokenizer ? tokenizer->vocab_size() : 0);
  corpus.report = &report;
  corpus.part_bytes = kPartBytes;
  const int threads = options.device.threads;
  const std::size_t enough = bytes_tokenized(threads);
  std::vector<Record> batch;
  std::size_t batch_bytes = 0;
  const auto flush = [&] {
    if (batch.empty()) return;
    store->add(tokenizer ? tokenize(batch, *tokenizer, threads, /*labels=*/false, store->records())
                         : corpus_of_ids(batch, options.get_tokenizer));
    batch.clear();
    batch_bytes = 0;
  };
  const std::vector<StepCount> cleaned =
      for_each_record(corpus, [&](Record&& record, const RecordPlace&) {
        batch_bytes += sizeof record + bytes_of(record);
        batch.push_back(std::move(record));
        if (batch_bytes >= enough) flush();
      });
  tell(report);
  flush();
  if (!options.json) note_cleaning(cleaned);
  return {.shards = nullptr, .store = store};
}

}  // namespace

TrainData load_train_data(const TrainOptions& options, const std::optional<Tokenizer>& tokenizer) {
  const bool separate = !options.validation_paths.empty();
  if (are_prepared(options.corpus.paths) && (!separate || are_prepared(options.validation_paths))) {
    refuse_text_options(options.corpus);
  }
  CorpusOptions corpus = options.corpus;
  ReadingReport report;
  if (!separate) {
    const std::uint64_t seed = options.training.data_seed.value_or(options.training.seed);
    return read_tokens(std::move(corpus), options, tokenizer, report)
        .split(options.validation_split, seed, only_record(options.training.packing));
  }
  if (!are_prepared(corpus.paths) && !are_prepared(options.validation_paths)) {
    corpus.paths = without_validation(corpus.paths, options.validation_paths, report);
  }
  const Tokens train = read_tokens(corpus, options, tokenizer, report);
  corpus.paths = options.validation_paths;
  ReadingReport validation_report;
  const Tokens validation = read_tokens(std::move(corpus), options, tokenizer, validation_report);
  if (train.shards != nullptr && validation.shards != nullptr &&
      train.shards->front().tokenizer() != validation.shards->front().tokenizer()) {
    throw Error(Fault::bad_data, "--data and --validation-file were made with different tokenizers",
                {}, "quire data prepare with the same --tokenizer");
  }
  return {.train = train.all(), .validation = validation.all(), .held_out = {}};
}

}  // namespace quire

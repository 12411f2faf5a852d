#include "pipeline/training_data.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "base/text.h"
#include "pipeline/get_model.h"
#include "tokens/shards.h"
#include "tokens/store.h"

namespace quire {
namespace {

/// `get_tokenizer`: why there is none, and how to get one.
void refuse_text(std::span<const Record> records, const std::vector<std::string>& get_tokenizer) {
  const auto is_text = [](const Record& record) { return record.input_ids.empty(); };
  if (std::ranges::none_of(records, is_text)) return;
  throw Error(
      Fault::usage, "text cannot be trained on without a tokenizer", get_tokenizer,
      fmt::format(fmt::runtime(
                      "`tokenizer` DIR, the folder of a model; `tokenizer` {} needs nothing"_named),
                  kBundledModel));
}

/// Shards hold ids: what would make other ones of the text comes too late.
void refuse_text_options(const CorpusOptions& corpus) {
  const char* late = !corpus.text_column.empty()          ? "text_column"
                     : !corpus.template_text.empty()      ? "template_text"
                     : corpus.line_by_line                ? "line_by_line"
                     : !corpus.document_separator.empty() ? "document_separator"
                     : corpus.loss_on_completion          ? "loss_on_completion"
                     : !corpus.cleaning.steps.empty()     ? "steps"
                     : !corpus.format.encoding.empty()    ? "encoding"
                     : corpus.format.delimiter != 0       ? "delimiter"
                     : !corpus.format.header              ? "header"
                                                          : nullptr;
  if (late == nullptr) return;
  throw Error(Fault::usage, field_name(late) + " does nothing to shards",
              {corpus.paths[0] + " was tokenized by quire data prepare, which takes this option"},
              "without " + field_name(late) + ", or prepare the text again with it");
}

bool are_prepared(const std::vector<std::string>& paths) {
  return std::any_of(paths.begin(), paths.end(),
                     [](const auto& path) { return is_prepared(path); });
}

}  // namespace

std::vector<std::string> without_validation(const std::vector<std::string>& paths,
                                            const std::vector<std::string>& validation_paths,
                                            ReadingReport& report, const ToldFiles& on_left_out) {
  const std::vector<std::filesystem::path> held_out = find_files(validation_paths);
  std::vector<std::string> files;
  std::size_t left_out = 0;
  for (const std::filesystem::path& file : find_files(paths, &report)) {
    const bool is_held_out = std::any_of(held_out.begin(), held_out.end(), [&](const auto& other) {
      return std::filesystem::equivalent(file, other);
    });
    if (is_held_out) {
      ++left_out;
    } else {
      files.push_back(file.string());
    }
  }
  if (files.empty()) {
    throw Error(Fault::usage,
                "`paths` and `validation_paths` are the same: nothing is left to learn"_named, {},
                "another `validation_paths`, or `validation_split` 0.05 without one"_named);
  }
  if (left_out > 0) on_left_out(left_out);
  return files;
}

OnlyRecord only_record(Packing packing) {
  return packing == Packing::stream ? OnlyRecord::cut : OnlyRecord::keep;
}

std::string unused_text(const Rows& rows) {
  return fmt::format(
      "{} longer than a row of {}: {} of {} {} {} not used",
      rows.cut_records() == 1 ? "1 record is" : with_commas(rows.cut_records()) + " records are",
      counted(rows.block_size(), "token"), with_commas(rows.unused_tokens()),
      rows.cut_records() == 1 ? "its" : "their", counted(rows.cut_tokens(), "token"),
      rows.unused_tokens() == 1 ? "is" : "are");
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

/// What was read.
struct Tokens {
  TokenView records;
  std::optional<ShardVocabulary> vocabulary;  // of shards
};

Tokens read_tokens(CorpusOptions corpus, const TrainOptions& options,
                   const std::optional<Tokenizer>& tokenizer, const DataCallbacks& callbacks,
                   ReadingReport& report) {
  if (are_prepared(corpus.paths)) {
    auto shards = std::make_shared<const std::vector<TokenShard>>(open_shards(corpus.paths));
    if (tokenizer) check_tokenizer(*shards, vocabulary_of(*tokenizer));
    Tokens tokens;
    if (!shards->empty()) tokens.vocabulary = shards->front().vocabulary();
    tokens.records = view_of(std::move(shards));
    return tokens;
  }
  // Text is tokenized as it is read: memory holds a batch of it.
  const auto store = std::make_shared<TokenStore>(tokenizer ? tokenizer->vocab_size() : 0);
  corpus.report = &report;
  corpus.part_bytes = kPartBytes;
  const int threads = options.threads;
  RecordBatches batches(threads, [&](std::span<const Record> batch, std::int64_t before) {
    if (!tokenizer) refuse_text(batch, options.get_tokenizer);
    const auto take = [&](const TokenRecords& part) { store->add(part); };
    tokenize(batch, tokenizer, threads, take, /*labels=*/false, before);
  });
  const std::vector<StepCount> cleaned = for_each_record(
      corpus, [&](Record&& record, const RecordPlace&) { batches.add(std::move(record)); });
  callbacks.on_read(report);
  batches.flush();
  callbacks.on_cleaned(cleaned);
  return {.records = view_of(store), .vocabulary = {}};
}

}  // namespace

TrainData load_train_data(const TrainOptions& options, const std::optional<Tokenizer>& tokenizer,
                          const DataCallbacks& callbacks) {
  const bool separate = !options.validation_paths.empty();
  if (are_prepared(options.corpus.paths) && (!separate || are_prepared(options.validation_paths))) {
    refuse_text_options(options.corpus);
  }
  CorpusOptions corpus = options.corpus;
  ReadingReport report;
  if (!separate) {
    const std::uint64_t seed = options.training.data_seed.value_or(options.training.seed);
    return split(read_tokens(std::move(corpus), options, tokenizer, callbacks, report).records,
                 options.validation_split, seed, only_record(options.training.packing));
  }
  if (!are_prepared(corpus.paths) && !are_prepared(options.validation_paths)) {
    corpus.paths =
        without_validation(corpus.paths, options.validation_paths, report, callbacks.on_left_out);
  }
  const Tokens train = read_tokens(corpus, options, tokenizer, callbacks, report);
  corpus.paths = options.validation_paths;
  ReadingReport validation_report;
  const Tokens validation =
      read_tokens(std::move(corpus), options, tokenizer, callbacks, validation_report);
  if (train.vocabulary && validation.vocabulary &&
      train.vocabulary->fingerprint != validation.vocabulary->fingerprint) {
    throw Error(Fault::bad_data,
                "`paths` and `validation_paths` were made with different tokenizers"_named, {},
                "quire data prepare with the same `tokenizer`"_named);
  }
  return {.train = train.records, .validation = validation.records, .held_out = {}};
}

}  // namespace quire

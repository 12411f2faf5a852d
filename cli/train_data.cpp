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

/// Ids in one place, and their labels, from `begin` of the whole on.
struct Source {
  std::int64_t begin;
  ShardIds ids;
  std::optional<ShardIds> labels;
};

/// The ids, or the labels, of some ranges of the whole.
TokenStream stream_of(const std::vector<Source>& sources, const std::vector<TokenRange>& ranges,
                      bool labels) {
  std::vector<TokenStream::Part> parts;
  auto source = sources.begin();
  for (std::size_t r = 0; r < ranges.size();) {
    TokenRange range = ranges[r++];
    while (r < ranges.size() && ranges[r].first == range.last) range.last = ranges[r++].last;
    while (range.first < range.last) {
      while (source + 1 != sources.end() && (source + 1)->begin <= range.first) ++source;
      const ShardIds& ids = labels && source->labels ? *source->labels : source->ids;
      std::visit(
          [&](auto values) {
            const auto skipped = static_cast<std::size_t>(range.first - source->begin);
            const std::size_t count = std::min(static_cast<std::size_t>(range.last - range.first),
                                               values.size() - skipped);
            parts.emplace_back(values.subspan(skipped, count));
            range.first += static_cast<std::int64_t>(count);
          },
          ids);
    }
  }
  return TokenStream(parts);
}

TokenView view_of(const std::vector<Source>& sources, const std::vector<TokenRange>& ranges,
                  std::shared_ptr<const void> owner) {
  struct Kept {
    std::shared_ptr<const void> owner;
    std::vector<std::int64_t> offsets{0};
  };
  auto kept = std::make_shared<Kept>();
  kept->owner = std::move(owner);
  for (const TokenRange& range : ranges) {
    kept->offsets.push_back(kept->offsets.back() + range.last - range.first);
  }
  TokenView view;
  view.ids = stream_of(sources, ranges, /*labels=*/false);
  if (std::any_of(sources.begin(), sources.end(), [](const Source& s) { return s.labels; })) {
    view.labels = stream_of(sources, ranges, /*labels=*/true);
  }
  view.offsets = kept->offsets;
  view.owner = std::move(kept);
  return view;
}

TrainData split_sources(const std::vector<Source>& sources, std::span<const std::int64_t> offsets,
                        const std::shared_ptr<const void>& owner, double validation_share,
                        std::uint64_t seed, OnlyRecord only) {
  const SplitRanges ranges = split(offsets, validation_share, seed, only);
  return {.train = view_of(sources, ranges.train, owner),
          .validation = view_of(sources, ranges.validation, owner)};
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

TrainData split_views(const std::shared_ptr<const TokenizedCorpus>& corpus, double validation_share,
                      std::uint64_t seed, OnlyRecord only) {
  std::vector<Source> sources{{.begin = 0, .ids = std::span(corpus->ids), .labels = {}}};
  if (!corpus->labels.empty()) sources[0].labels = std::span(corpus->labels);
  return split_sources(sources, corpus->offsets, corpus, validation_share, seed, only);
}

TrainData split_views(const std::shared_ptr<const std::vector<TokenizedCorpus>>& pieces,
                      double validation_share, std::uint64_t seed, OnlyRecord only) {
  std::vector<Source> sources;
  std::vector<std::int64_t> offsets{0};
  std::int64_t begin = 0;
  for (const TokenizedCorpus& piece : *pieces) {
    sources.push_back({.begin = begin, .ids = std::span(piece.ids), .labels = {}});
    if (!piece.labels.empty()) sources.back().labels = std::span(piece.labels);
    for (const std::int64_t offset : std::span(piece.offsets).subspan(1)) {
      offsets.push_back(begin + offset);
    }
    begin += std::ssize(piece.ids);
  }
  return split_sources(sources, offsets, pieces, validation_share, seed, only);
}

TrainData split_views(const std::shared_ptr<const std::vector<TokenShard>>& shards,
                      double validation_share, std::uint64_t seed, OnlyRecord only) {
  std::vector<Source> sources;
  std::vector<std::int64_t> offsets{0};
  for (const TokenShard& shard : *shards) {
    const std::int64_t begin = offsets.back();
    sources.push_back({.begin = begin, .ids = shard.ids(), .labels = shard.labels()});
    for (const std::int64_t offset : shard.offsets().subspan(1)) offsets.push_back(begin + offset);
  }
  return split_sources(sources, offsets, shards, validation_share, seed, only);
}

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

/// What was read: shards, or pieces of text as ids.
struct Tokens {
  std::shared_ptr<const std::vector<TokenShard>> shards;
  std::shared_ptr<const std::vector<TokenizedCorpus>> pieces;

  TrainData split(double validation_share, std::uint64_t seed, OnlyRecord only) const {
    return shards != nullptr ? split_views(shards, validation_share, seed, only)
                             : split_views(pieces, validation_share, seed, only);
  }
  TokenView all() const { return split(0, 0, OnlyRecord::keep).train; }
};

Tokens read_tokens(CorpusOptions corpus, const TrainOptions& options,
                   const std::optional<Tokenizer>& tokenizer, ReadingReport& report) {
  if (are_prepared(corpus.paths)) {
    auto shards = std::make_shared<const std::vector<TokenShard>>(open_shards(corpus.paths));
    if (tokenizer) check_tokenizer(*shards, *tokenizer);
    return {.shards = std::move(shards), .pieces = nullptr};
  }
  // Text is tokenized as it is read, so that memory holds the ids and little else.
  auto pieces = std::make_shared<std::vector<TokenizedCorpus>>();
  corpus.report = &report;
  corpus.part_bytes = kPartBytes;
  const int threads = options.device.threads;
  const std::size_t enough = bytes_tokenized(threads);
  std::vector<Record> batch;
  std::size_t batch_bytes = 0;
  std::int64_t records = 0;
  const auto flush = [&] {
    if (batch.empty()) return;
    pieces->push_back(tokenizer ? tokenize(batch, *tokenizer, threads, /*labels=*/false, records)
                                : corpus_of_ids(batch, options.get_tokenizer));
    records += pieces->back().size();
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
  return {.shards = nullptr, .pieces = std::move(pieces)};
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
  return {.train = train.all(), .validation = validation.all()};
}

}  // namespace quire

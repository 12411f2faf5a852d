#include "pipeline/inspect_data.h"

#include <algorithm>
#include <bit>
#include <filesystem>
#include <memory>
#include <string_view>
#include <system_error>
#include <unordered_set>

#include "base/error.h"
#include "base/hash.h"
#include "corpus/file_kind.h"
#include "tokens/batches.h"
#include "tokens/shards.h"
#include "tokens/split.h"
#include "tokens/store.h"

namespace quire {
namespace {

namespace fs = std::filesystem;

void add_file(Inspected& inspected, const fs::path& path) {
  ++inspected.files;
  ++inspected.kinds[lower_extension(unpacked_name(path)) +
                    (compression_of(path) == Compression::none ? "" : lower_extension(path))];
  std::error_code ignored;
  inspected.file_bytes += static_cast<std::int64_t>(fs::file_size(path, ignored));
}

/// The records' lengths, and what an epoch of them is.
void add_tokens(const InspectOptions& c, const TokenView& all, Inspected& inspected) {
  all.offsets.for_each_record(
      [&](std::int64_t begin, std::int64_t end) { ++inspected.records.lengths[end - begin]; });
  // Shards are refused where there are files to validate on.
  const double share = c.validation.empty() ? c.validation_split : 0;
  const TrainData data = split(all, share, c.training.seed, only_record(c.training.packing));
  const Rows rows = rows_of(data.train, c.training);
  inspected.epoch = {.rows = rows.size(),
                     .steps = rows.size() > 0 ? total_steps(c.training, rows.size()) : 0,
                     .left_out = rows.left_out(),
                     .held_out_records = data.validation.size(),
                     .cut_records = rows.cut_records(),
                     .unused_tokens = rows.unused_tokens(),
                     .unused = rows.unused_tokens() > 0 ? unused_text(rows) : ""};
}

/// Reads the data once more, of which a hash of each record stays.
Inspected::Validation compare_validation(const InspectOptions& c, const CorpusOptions& data) {
  const auto hash = [](const Record& record) {
    const auto* ids = reinterpret_cast<const char*>(record.input_ids.data());
    return hash128(record.input_ids.empty()
                       ? std::string_view(record.text)
                       : std::string_view(ids, record.input_ids.size() * sizeof(std::int32_t)));
  };
  std::unordered_set<Hash128, HashOfHash> learnt;
  for_each_record(data, [&](Record&& record, const RecordPlace&) { learnt.insert(hash(record)); });
  CorpusOptions validation = data;
  validation.paths = c.validation;
  Inspected::Validation found;
  for_each_record(validation, [&](Record&& record, const RecordPlace&) {
    ++found.records;
    found.learnt += learnt.contains(hash(record)) ? 1 : 0;
  });
  return found;
}

/// Whether one of several columns would have to be chosen, and nobody did.
bool column_unknown(const InspectOptions& c, const std::vector<ColumnSummary>& columns) {
  if (!c.corpus.text_column.empty() || !c.corpus.template_text.empty()) return false;
  const auto is_default = [](const ColumnSummary& column) {
    return column.name == "text" || column.name == "input_ids";
  };
  return columns.size() > 1 && std::none_of(columns.begin(), columns.end(), is_default);
}

Inspected inspect_text(const InspectOptions& c, const std::optional<Tokenizer>& tokenizer,
                       const ToldFiles& on_left_out) {
  Inspected inspected;
  CorpusOptions corpus_options = c.corpus;
  corpus_options.report = &inspected.texts;
  if (!c.validation.empty()) {
    corpus_options.paths =
        without_validation(c.corpus.paths, c.validation, inspected.tables, on_left_out);
  }
  const std::vector<fs::path> files =
      find_files(corpus_options.paths, c.validation.empty() ? &inspected.tables : nullptr);
  for (const fs::path& path : files) add_file(inspected, path);
  inspected.columns = summarize_columns(files, c.corpus.format, &inspected.tables);
  if (column_unknown(c, inspected.columns.columns)) return inspected;
  inspected.read = true;
  inspected.in_tokens = tokenizer.has_value();
  const auto store = std::make_shared<TokenStore>(tokenizer ? tokenizer->vocab_size() : 0);
  inspected.records = summarize_records(corpus_options, tokenizer, c.threads,
                                        [&](const TokenRecords& part) { store->add(part); });
  if (tokenizer) add_tokens(c, view_of(store), inspected);
  if (!c.validation.empty()) {
    corpus_options.report = nullptr;
    inspected.validation = compare_validation(c, corpus_options);
    if (inspected.epoch) inspected.epoch->held_out_records = inspected.validation->records;
  }
  return inspected;
}

Inspected inspect_shards(const InspectOptions& c, const std::optional<Tokenizer>& tokenizer) {
  Inspected inspected;
  const auto shards = std::make_shared<const std::vector<TokenShard>>(open_shards(c.corpus.paths));
  if (tokenizer) check_tokenizer(*shards, vocabulary_of(*tokenizer));
  for (const TokenShard& shard : *shards) add_file(inspected, shard.path());
  inspected.read = inspected.in_tokens = true;
  RecordsSummary& records = inspected.records;
  const TokenView all = view_of(shards);
  records.records = all.size();
  add_tokens(c, all, inspected);
  if (tokenizer) {
    for (const std::int64_t r : sample_numbers(all.size())) {
      constexpr std::int64_t kShown = 1000;  // tokens
      const std::int64_t first = all.offsets[r];
      std::vector<std::int32_t> ids(
          static_cast<std::size_t>(std::min(all.offsets[r + 1] - first, kShown)));
      all.ids.copy(first, ids);
      records.samples.push_back({r + 1, tokenizer->decode(ids)});
    }
  }
  return inspected;
}

}  // namespace

Inspected inspect_data(const InspectOptions& c, const std::optional<Tokenizer>& tokenizer,
                       const ToldFiles& on_left_out) {
  const bool prepared = std::any_of(c.corpus.paths.begin(), c.corpus.paths.end(),
                                    [](const std::string& path) { return is_prepared(path); });
  if (prepared && !c.validation.empty()) {
    throw Error(Fault::usage, "`validation_paths` is compared with texts, not with shards"_named,
                {c.corpus.paths[0] + " holds shards"}, "the files that they were prepared from");
  }
  return prepared ? inspect_shards(c, tokenizer) : inspect_text(c, tokenizer, on_left_out);
}

std::vector<Bar> histogram(const std::map<std::int64_t, std::int64_t>& lengths) {
  std::map<int, std::int64_t> counts;  // bits of the length
  for (const auto& [length, records] : lengths) {
    counts[std::bit_width(static_cast<std::uint64_t>(length))] += records;
  }
  std::vector<Bar> bars;
  if (counts.empty()) return bars;
  for (int bits = counts.begin()->first; bits <= counts.rbegin()->first; ++bits) {
    const std::int64_t low = bits == 0 ? 0 : std::int64_t{1} << (bits - 1);
    const std::int64_t high = bits == 0 ? 0 : 2 * low - 1;
    bars.push_back({low, high, counts.contains(bits) ? counts[bits] : 0});
  }
  return bars;
}

Lengths lengths_of(const std::map<std::int64_t, std::int64_t>& lengths) {
  if (lengths.empty()) return {};
  std::int64_t count = 0, sum = 0;
  for (const auto& [length, records] : lengths) {
    count += records;
    sum += length * records;
  }
  const auto at = [&](double share) {
    auto left = static_cast<std::int64_t>(share * static_cast<double>(count - 1));
    auto found = lengths.begin();
    while (left >= found->second) left -= found++->second;
    return found->first;
  };
  return {.sum = sum,
          .least = lengths.begin()->first,
          .median = at(0.5),
          .most = lengths.rbegin()->first,
          .most_of_95 = at(0.95)};
}

std::array<NamedFinding, 6> findings_of(const RecordsSummary& r) {
  return {{{"invalid_utf8", "bytes that are not UTF-8", "", r.invalid_utf8},
           {"mojibake", "UTF-8 that was read as another encoding", "repair-mojibake", r.mojibake},
           {"control", "control characters", "control", r.control},
           {"not_nfc", "not in Unicode's normal form C", "nfc", r.not_nfc},
           {"long_lines", "very long lines", "long-lines", r.long_lines},
           {"duplicates", "the same text as an earlier record", "duplicates", r.duplicates}}};
}

}  // namespace quire

#include "corpus/inspect.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "base/json.h"
#include "base/text.h"
#include "base/utf8.h"
#include "corpus/csv.h"
#include "corpus/file_kind.h"
#include "corpus/input_file.h"
#include "corpus/json_text.h"
#include "corpus/mojibake.h"

namespace quire {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kSamples = 5;

class Columns {
 public:
  void add_row() { ++summary_.rows; }
  /// `which`: of the columns of one table that have the name, from 0.
  std::size_t index(const std::string& name, int which = 0) {
    const auto [found, fresh] = index_.emplace(std::pair(name, which), summary_.columns.size());
    if (fresh) summary_.columns.push_back({.name = name, .example = {}});
    return found->second;
  }
  void add(std::size_t index, std::string_view value) {
    ColumnSummary& column = summary_.columns[index];
    if (value.empty()) return;
    if (column.filled++ == 0) column.example = replace_invalid_utf8(value);
    column.bytes += std::ssize(value);
  }
  ColumnsSummary take() { return std::move(summary_); }

 private:
  ColumnsSummary summary_;
  std::map<std::pair<std::string, int>, std::size_t> index_;
};

void add_table(const fs::path& path, const TextFormat& format, ReadingReport* report,
               Columns& columns) {
  CsvReader csv(path, format, report);
  std::map<std::string, int> seen;
  std::vector<std::size_t> indexes;
  for (const std::string& name : csv.columns()) {
    indexes.push_back(columns.index(name, seen[name]++));
  }
  std::vector<std::string> fields;
  while (csv.next(fields)) {
    columns.add_row();
    for (std::size_t i = 0; i < fields.size(); ++i) {
      columns.add(indexes[i], fields[i]);
      if (report != nullptr) report->look(path, csv.line(), fields[i]);
    }
  }
}

// Lines that are no objects are passed over: reading the records says what is wrong with them.
void add_json_lines(const fs::path& path, const TextFormat& format, Columns& columns) {
  using Json = nlohmann::ordered_json;
  const InputFile file(path, format);
  std::string_view text = without_byte_order_mark(file.text(), path);
  while (!text.empty()) {
    const std::string valid = replace_invalid_utf8(take_until('\n', text));
    const StrictJson strict = strict_json(valid);
    const Json json = parse_json_or_discard<Json>(strict.text.empty() ? valid : strict.text);
    if (json.is_discarded() || !json.is_object()) continue;
    columns.add_row();
    for (const auto& [name, value] : json.items()) {
      columns.add(columns.index(name), value.is_null()     ? ""
                                       : value.is_string() ? value.get<std::string>()
                                       : value.is_number()
                                           ? std::string(written_member(valid, name))
                                           : json_text(value));
    }
  }
}

// Some bytes of the text around a place, whole characters.
std::string_view around(std::string_view text, std::size_t begin, std::size_t end) {
  constexpr std::size_t kBefore = 12, kAfter = 24;
  begin -= std::min(begin, kBefore);
  end = std::min(end + kAfter, text.size());
  begin = utf8::begin_of_character(text, begin);
  while (end < text.size() && utf8::continues(text[end])) ++end;
  return text.substr(begin, end - begin);
}

// The first byte that is not UTF-8, which replacing changes first.
std::size_t first_invalid(std::string_view text) {
  const std::string valid = replace_invalid_utf8(text);
  const auto length = static_cast<std::ptrdiff_t>(std::min(text.size(), valid.size()));
  return static_cast<std::size_t>(
      std::mismatch(text.begin(), text.begin() + length, valid.begin()).first - text.begin());
}

// Between white space, as `wc -w` counts.
std::int64_t count_words(std::string_view text) {
  std::int64_t words = 0;
  bool inside = false;
  for (const char c : text) {
    const bool blank = c == ' ' || (c >= '\t' && c <= '\r');
    words += !blank && !inside;
    inside = !blank;
  }
  return words;
}

class Inspection {
 public:
  Inspection(const CorpusOptions& options, const std::optional<Tokenizer>& tokenizer, int threads,
             const TakeTokens& take)
      : options_(options),
        tokenizer_(tokenizer),
        batches_(threads, [&, threads](std::span<const Record> batch, std::int64_t before) {
          tokenize(batch, tokenizer, threads, take, /*labels=*/false, before);
        }) {
    options_.part_bytes = kPartBytes;
  }

  RecordsSummary run() {
    summary_.cleaned = for_each_record(options_, [&](Record&& record, const RecordPlace& place) {
      add(std::move(record), place);
    });
    batches_.flush();
    for (const std::int64_t number : sample_numbers(std::ssize(kept_))) {
      summary_.samples.push_back(std::move(kept_[static_cast<std::size_t>(number)]));
    }
    return std::move(summary_);
  }

 private:
  static constexpr std::size_t kShown = 4096;  // bytes of a sample: of a book a part will do

  /// What is known of a record whose parts are coming in.
  struct Begun {
    std::int64_t words = 0, bytes = 0, longest_line = 0;
    std::string beginning;  // enough of it for samples and excerpts
    std::set<const Finding*> found;
  };

  void add(Record&& record, const RecordPlace& place) {
    const std::string_view text = record.text;
    const std::int64_t words = count_words(text);
    begun_.words += words;
    begun_.bytes += std::ssize(text);
    summary_.bytes += std::ssize(text);
    summary_.characters += utf8::count_characters(text);
    summary_.words += words;
    if (begun_.beginning.size() < 2 * kShown) begun_.beginning += text.substr(0, 2 * kShown);
    if (record.input_ids.empty()) look_for_trouble(text, place);
    if (!record.more) end_record(record, place);
    if (tokenizer_) batches_.add(std::move(record));
  }

  void found(Finding& finding, const RecordPlace& place, std::string_view excerpt) {
    begun_.found.insert(&finding);
    if (finding.records++ > 0) return;
    finding.file = *place.file;
    finding.line = place.line;
    finding.excerpt = replace_invalid_utf8(excerpt);
  }

  void end_record(const Record& record, const RecordPlace& place) {
    ++summary_.records;
    if (!tokenizer_) {
      ++summary_.lengths[record.input_ids.empty() ? begun_.words : std::ssize(record.input_ids)];
    }
    if (record.input_ids.empty()) {
      if (begun_.longest_line > options_.cleaning.max_line_length) {
        found(summary_.long_lines, place, with_commas(begun_.longest_line) + " characters");
      }
      if (!seen_.insert(hash_.hash128()).second) {
        found(summary_.duplicates, place, around(begun_.beginning, 0, 40));
      }
      hash_.clear();
    }
    keep_for_samples(record);
    begun_ = {};
  }

  // A part ends where a line does, and nothing that is looked for goes on in the next one.
  void look_for_trouble(std::string_view text, const RecordPlace& place) {
    const auto wanted = [&](const Finding& finding) { return !begun_.found.contains(&finding); };
    if (wanted(summary_.invalid_utf8) && (place.invalid_utf8 || !is_utf8(text))) {
      const std::size_t at = place.invalid_utf8 ? text.find("\xEF\xBF\xBD") : first_invalid(text);
      found(summary_.invalid_utf8, place, around(text, std::min(at, text.size()), at));
    }
    if (wanted(summary_.mojibake)) {
      if (const auto run = find_mojibake(text)) {
        found(summary_.mojibake, place, around(text, run->begin, run->end));
      }
    }
    if (wanted(summary_.control) && has_control_character(text)) found(summary_.control, place, "");
    if (wanted(summary_.not_nfc) && !is_nfc(text)) found(summary_.not_nfc, place, "");
    begun_.longest_line = std::max(begun_.longest_line, longest_line(text));
    hash_.add(text);
  }

  // How many records there will be is not known: every second one is let go when there are too
  // many, so that those kept are always spread over all that were read.
  void keep_for_samples(const Record& record) {
    if ((summary_.records - 1) % stride_ != 0) return;
    constexpr std::size_t kKept = 64;
    kept_.push_back({summary_.records, sample_text(record)});
    if (kept_.size() < kKept) return;
    for (std::size_t i = 1; 2 * i < kept_.size(); ++i) kept_[i] = std::move(kept_[2 * i]);
    kept_.resize((kept_.size() + 1) / 2);
    stride_ *= 2;
  }

  std::string sample_text(const Record& record) const {
    if (!record.input_ids.empty()) {
      return tokenizer_ ? tokenizer_->decode(record.input_ids)
                        : "(" + counted(record.input_ids.size(), "id") + ")";
    }
    if (std::cmp_greater(begun_.bytes, kShown)) {
      return replace_invalid_utf8(around(begun_.beginning, 0, kShown)) + " …";
    }
    std::string text = replace_invalid_utf8(begun_.beginning);
    if (tokenizer_ && tokenizer_->end_of_text()) {
      const std::string end(tokenizer_->token_bytes(*tokenizer_->end_of_text()));
      if (!text.ends_with(end)) text += end;
    }
    return text;
  }

  CorpusOptions options_;
  const std::optional<Tokenizer>& tokenizer_;
  RecordsSummary summary_;
  Begun begun_;
  HashStream hash_;  // of its text
  std::unordered_set<Hash128, HashOfHash> seen_;
  std::vector<RecordsSummary::Sample> kept_;
  std::int64_t stride_ = 1;
  RecordBatches batches_;
};

}  // namespace

ColumnsSummary summarize_columns(const std::vector<fs::path>& files, const TextFormat& format,
                                 ReadingReport* report) {
  Columns columns;
  for (const fs::path& path : files) {
    const FileKind kind = kind_of(path);
    if (kind == FileKind::table) add_table(path, format, report, columns);
    if (kind == FileKind::json_lines) add_json_lines(path, format, columns);
  }
  return columns.take();
}

RecordsSummary summarize_records(const CorpusOptions& options,
                                 const std::optional<Tokenizer>& tokenizer, int threads,
                                 const TakeTokens& take) {
  return Inspection(options, tokenizer, threads, take).run();
}

std::vector<std::int64_t> sample_numbers(std::int64_t records) {
  std::vector<std::int64_t> numbers;
  const std::int64_t count = std::min(records, kSamples);
  for (std::int64_t i = 0; i < count; ++i) numbers.push_back(i * records / count);
  return numbers;
}

}  // namespace quire

// Text in: files and folders become records of text or token ids.
//
//   .txt           one record; or one for each line, with line_by_line; or one for each document,
//                  with a separator. Line ends "\r\n" and "\r" become "\n"
//   .csv, .tsv     RFC 4180, the first row names the columns; one record for each row (csv.h)
//   .jsonl         an object a line: {"text": …}, or {"input_ids": […], "labels": […]}
//   .gz, .zst      any of these, packed
//   a folder       all .txt below it, in the order of their paths; where it has none, its tables
//                  and .jsonl
//   a pattern      *, ? and [a-z] as in a shell, ** for any number of folders; in the order of the
//                  paths
//
// A byte-order mark at the start of a file is dropped. Bytes that are not UTF-8 are kept, and
// reported: the tokenizer reads them as U+FFFD. Records without any text are left out, and so are
// rows of a table whose columns hold nothing but blanks.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "corpus/clean.h"
#include "corpus/reading_report.h"
#include "corpus/text_format.h"
#include "tokenizer/tokenizer.h"
#include "tokens/view.h"

namespace quire {

/// Where text comes from and how it becomes records.
struct CorpusOptions {
  std::vector<std::string> paths;  ///< files, folders, patterns
  std::string text_column;  ///< of a CSV, or a field of a JSONL; empty: "text", or the only column
  std::string template_text;  ///< "{keywords} => {quote}", see template.h; instead of text_column
  bool line_by_line = false;  ///< every line of a .txt that is not blank is a record
  /// Only the tokens of the template's last field, and of what follows it, become labels.
  bool loss_on_completion = false;
  /// What an error about a column tells to try: a command that wants a path and fields behind it, or
  /// nothing, and the field that names the column.
  std::string command, column_option = "text_column";
  std::string document_separator;  ///< a line of a .txt that is this text divides records
  CleaningOptions cleaning;
  TextFormat format;
  /// A record of a .txt that is longer may come in parts, see Record::more. 0: records come whole.
  std::size_t part_bytes = 0;
  /// Where it is given, it gets what a person is to be told of the files.
  ReadingReport* report = nullptr;
};

/// One document: text, or ids where a JSONL line brings {"input_ids", "labels"}.
struct Record {
  std::string text;
  std::vector<std::int32_t> input_ids = {};
  std::vector<std::int32_t> labels = {};  ///< aligned with input_ids; empty: same as input_ids
  /// Bytes of text that are given rather than learned: a token that ends within them gets the label
  /// -100, one that reaches beyond them is learned.
  std::size_t prompt_bytes = 0;
  /// The text goes on in the next record: what was asked for is parts,
  /// and this one ends where can_cut() says.
  bool more = false;
};

/// Whether a text can be divided before byte `at`, so that encoding both parts gives the ids of the
/// whole: between "e" and "\n". The splitter's pieces never hold a visible character followed by a
/// line end, nor does a special token. Neither does what a step of cleaning changes.
inline bool can_cut(std::string_view text, std::size_t at) {
  return text[at] == '\n' && at > 0 && text[at - 1] > ' ' && text[at - 1] < '\x7f';
}

/// The files that paths, folders and patterns stand for, in order. Throws Error(bad_data) for what
/// is not there or of a kind that is not read. `report`, where it is given,
/// gets what of folders is passed over.
std::vector<std::filesystem::path> find_files(const std::vector<std::string>& paths,
                                              ReadingReport* report = nullptr);

/// Where a record was read.
struct RecordPlace {
  const std::filesystem::path* file;
  std::size_t line;           ///< from 1
  bool invalid_utf8 = false;  ///< of a JSON line, whose text has U+FFFD already
};
using TakeRecord = std::function<void(Record&&, const RecordPlace&)>;

/// Reads and cleans all records, in order, one at a time: files that are larger than memory can be
/// gone through when no single record is. Returns what cleaning did. Throws Error(bad_data) naming
/// file, line and cause, and when not a single record is left.
std::vector<StepCount> for_each_record(const CorpusOptions& options, const TakeRecord& take);

/// All of them.
std::vector<Record> read_records(const CorpusOptions& options);

using TakeTokens = std::function<void(const TokenRecords&)>;
/// Encodes records; `take` gets all ids in order, part by part: a record that one does not end goes
/// on in the next. A record of text ends with end_of_text when the tokenizer has it; one that
/// brought its ids is left as it was. Without a tokenizer all must have brought them. The result
/// does not depend on `threads` (0 = all that are available), nor on how it is parted. `labels`:
/// there shall be labels even where no record brings other ones than its ids. Throws
/// Error(bad_data), before `take` gets anything, for ids that the tokenizer does not have, naming
/// the record; `before` were there before the first.
void tokenize(std::span<const Record> records, const std::optional<Tokenizer>& tokenizer,
              int threads, const TakeTokens& take, bool labels = false, std::int64_t before = 0);
/// Bytes of text, and of ids and labels.
std::size_t bytes_of(const Record& record);
/// Bytes of text that are enough to tokenize at once: all threads have work in them, pieces of 256
/// KiB. Their ids take up to eight times as many.
std::size_t bytes_tokenized(int threads);
inline constexpr std::size_t kPartBytes = 1 << 22;  ///< for CorpusOptions::part_bytes
/// Whether some record has other labels than its ids.
bool have_labels(std::span<const Record> records);

/// Gathers records until they are enough to tokenize at once.
class RecordBatches {
 public:
  /// `before`: records that ended before these.
  using Take = std::function<void(std::span<const Record>, std::int64_t before)>;
  RecordBatches(int threads, Take take)
      : enough_(bytes_tokenized(threads)), take_(std::move(take)) {}
  void add(Record&& record);
  void flush();  ///< what is left

 private:
  std::size_t enough_, bytes_ = 0;
  std::int64_t before_ = 0;
  std::vector<Record> records_;
  Take take_;
};

/// The tokenizer as shards name it (tokens/shards.h).
struct ShardVocabulary;
ShardVocabulary vocabulary_of(const Tokenizer& tokenizer);

}  // namespace quire

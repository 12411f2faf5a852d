// Text in: files and folders become records of text or token ids.
//
//   .txt           one record (or one for each line, with line_by_line); line ends "\r\n" become
//   "\n" .csv, .tsv     RFC 4180, the first row names the columns; one record for each row (csv.h)
//   .jsonl         an object a line: {"text": …}, or {"input_ids": […], "labels": […]}
//   a folder       all .txt below it, in the order of their paths
//   a pattern      *, ? and [a-z] as in a shell, in the order of the paths
//
// A byte-order mark at the start of a file is dropped. Bytes that are not UTF-8 are kept: the
// tokenizer reads them as U+FFFD. Records without any text are left out.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "tokenizer/tokenizer.h"

namespace quire {

/// Where text comes from and how it becomes records.
struct CorpusOptions {
  std::vector<std::string> paths;  ///< files, folders, patterns
  std::string text_column;  ///< of a CSV, or a field of a JSONL; empty: "text", or the only column
  std::string template_text;  ///< "{keywords} => {quote}", see template.h; instead of text_column
  bool line_by_line = false;  ///< every line of a .txt that is not blank is a record
  /// Only the tokens of the template's last field, and of what follows it, become labels.
  bool loss_on_completion = false;
  /// What an error about a column tells to try: a command, and its option that names the column.
  std::string command = "quire train", column_option = "--text-column";
};

/// One document: text, or ids where a JSONL line brings {"input_ids", "labels"}.
struct Record {
  std::string text;
  std::vector<std::int32_t> input_ids;
  std::vector<std::int32_t> labels;  ///< aligned with input_ids; empty: same as input_ids
  /// Bytes of text that are given rather than learned: a token that ends within them gets the label
  /// -100, one that reaches beyond them is learned.
  std::size_t prompt_bytes = 0;
};

inline constexpr std::int32_t kIgnoredLabel = -100;

/// The files that paths, folders and patterns stand for, in order. Throws Error(bad_data) for what
/// is not there or of a kind that is not read.
std::vector<std::filesystem::path> find_files(const std::vector<std::string>& paths);

/// Reads all records, in order. Throws Error(bad_data) naming file, line and cause, and when there
/// is not a single record.
std::vector<Record> read_records(const CorpusOptions& options);

/// Token records ready for training: record r is ids[offsets[r] … offsets[r+1]). A record of text
/// ends with end_of_text when the tokenizer has it; one that brought its ids is left as it was.
struct TokenizedCorpus {
  std::vector<std::int32_t> ids;
  std::vector<std::int32_t> labels;  ///< empty when all labels equal the ids
  std::vector<std::int64_t> offsets{0};
  std::int64_t size() const { return static_cast<std::int64_t>(offsets.size()) - 1; }
};

/// The result does not depend on `threads` (0 = all that are available). Throws Error(bad_data) for
/// ids that the tokenizer does not have.
TokenizedCorpus tokenize(const std::vector<Record>& records, const Tokenizer& tokenizer,
                         int threads);

/// Splits by record: a seeded shuffle chooses round(records · share) of them, both sides keep the
/// order. Where that is no whole record (a few books, say), the last share of each record's tokens
/// is cut off instead. Equal seeds give equal splits everywhere. Throws Error(usage) unless
/// 0 <= share < 1.
void split(const TokenizedCorpus& corpus, double validation_share, std::uint64_t seed,
           TokenizedCorpus& train, TokenizedCorpus& validation);

}  // namespace quire

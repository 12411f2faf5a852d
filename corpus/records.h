// Text in: files and folders become records of text or token ids.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "tokenizer/tokenizer.h"

namespace quire {

/// Where text comes from and how it becomes records.
struct CorpusOptions {
  std::vector<std::string> paths;  ///< files (.txt, .csv, .tsv, .jsonl), folders of .txt, globs
  std::string text_column;         ///< of a CSV; a field of a JSONL ("text" when empty)
  bool line_by_line = false;       ///< every line of a .txt is a record
};

/// One document: text, or ids where a JSONL line brings {"input_ids", "labels"}.
struct Record {
  std::string text;
  std::vector<std::int32_t> input_ids;
  std::vector<std::int32_t> labels;  ///< aligned with input_ids; empty: same as input_ids
};

/// Reads all records, in order. Throws Error(bad_data) naming file, line and cause.
std::vector<Record> read_records(const CorpusOptions& options);

/// Token records ready for training: each ends with end_of_text when the tokenizer has it.
struct TokenizedCorpus {
  std::vector<std::int32_t> ids;
  std::vector<std::int32_t> labels;  ///< empty when all labels equal the ids
  std::vector<std::int64_t> offsets{0};
};
TokenizedCorpus tokenize(const std::vector<Record>& records, const Tokenizer& tokenizer, int threads);

/// Splits by record with a seeded shuffle; a corpus of a single record is cut by tokens at its end.
void split(const TokenizedCorpus& corpus, double validation_share, std::uint64_t seed,
           TokenizedCorpus& train, TokenizedCorpus& validation);

}  // namespace quire

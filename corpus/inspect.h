// What a person wants to know of a data set before training on it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "corpus/records.h"

namespace quire {

/// A column of tables, or a field of JSON lines, over all files.
struct ColumnSummary {
  std::string name;
  std::int64_t filled = 0;  ///< rows in which it is not empty
  std::int64_t bytes = 0;   ///< of all its texts
  std::string example;      ///< the first that is not empty
};

struct ColumnsSummary {
  std::int64_t rows = 0;
  std::vector<ColumnSummary> columns;  ///< in the order in which they were met
};

/// The columns of all tables and JSON lines among the files. Two of one name in a table are two.
/// `report`, where it is given, gets what is to be said of the tables.
ColumnsSummary summarize_columns(const std::vector<std::filesystem::path>& files,
                                 const TextFormat& format = {}, ReadingReport* report = nullptr);

/// Something that is found in records, and where first.
struct Finding {
  std::int64_t records = 0;
  std::filesystem::path file;
  std::size_t line = 0;
  std::string excerpt;
};

struct RecordsSummary {
  std::int64_t records = 0, bytes = 0, characters = 0, words = 0;
  /// How many records have a length in words; none with a tokenizer, which tells it in tokens.
  std::map<std::int64_t, std::int64_t> lengths;
  Finding invalid_utf8, mojibake, control, not_nfc, long_lines, duplicates;
  struct Sample {
    std::int64_t record;  ///< its number, from 1
    std::string text;  ///< as the model sees it: the template filled, the end-of-text token shown
  };
  std::vector<Sample> samples;
  std::vector<StepCount> cleaned;
};

/// Goes through all records, after the cleaning that was asked for. What is found is what the other
/// cleaning steps would be for. With a tokenizer `take` gets all ids, batch by batch: a record that
/// one does not end goes on in the next.
RecordsSummary summarize_records(const CorpusOptions& options,
                                 const std::optional<Tokenizer>& tokenizer, int threads,
                                 const TakeTokens& take);

/// Up to five of `records` numbers from 0 on, spread evenly.
std::vector<std::int64_t> sample_numbers(std::int64_t records);

}  // namespace quire

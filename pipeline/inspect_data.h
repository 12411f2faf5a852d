// What a data set holds, what is wrong with it, and what an epoch of it takes.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "corpus/inspect.h"
#include "corpus/reading_report.h"
#include "corpus/records.h"
#include "engine/training/training_config.h"
#include "pipeline/training_data.h"
#include "tokenizer/tokenizer.h"

namespace quire {

struct InspectOptions {
  CorpusOptions corpus;
  std::vector<std::string> validation;  ///< files that are left out, and compared with the rest
  TrainingConfig training;
  double validation_split = 0.05;
  int threads = 0;
};

/// All that is found out of a data set.
struct Inspected {
  std::map<std::string, std::int64_t> kinds;  ///< extension -> files
  std::int64_t files = 0, file_bytes = 0;
  ColumnsSummary columns;
  ReadingReport tables, texts;
  bool read = false;       ///< whether records were: not where nobody knows the column
  bool in_tokens = false;  ///< lengths; else in words
  RecordsSummary records;
  struct Epoch {
    std::int64_t rows = 0, steps = 0, left_out = 0, held_out_records = 0;
    std::int64_t cut_records = 0, unused_tokens = 0;  ///< of records that are longer than a row
    std::string unused;                               ///< the same in words
  };
  std::optional<Epoch> epoch;
  struct Validation {
    std::int64_t records = 0, learnt = 0;  ///< learnt: that stand in the data, too
  };
  std::optional<Validation> validation;
};

/// Without a tokenizer lengths are in words, and there is no epoch but of shards. `on_left_out` is told
/// of files that are validated on. Throws Error(usage) for shards with a validation file.
Inspected inspect_data(const InspectOptions& options, const std::optional<Tokenizer>& tokenizer,
                       const ToldFiles& on_left_out);

/// Lengths from low to high, both included.
struct Bar {
  std::int64_t low, high, records;
};

/// One for each power of two: lengths spread over many of them.
std::vector<Bar> histogram(const std::map<std::int64_t, std::int64_t>& lengths);

/// Of all records.
struct Lengths {
  std::int64_t sum = 0, least = 0, median = 0, most = 0;
  std::int64_t most_of_95 = 0;  ///< 95 of 100 records are no longer
};

Lengths lengths_of(const std::map<std::int64_t, std::int64_t>& lengths);

/// A kind of trouble.
struct NamedFinding {
  const char* key;   ///< in JSON
  const char* what;  ///< for people
  const char* step;  ///< of cleaning that does something about it
  const Finding& finding;
};

std::array<NamedFinding, 6> findings_of(const RecordsSummary& records);

}  // namespace quire

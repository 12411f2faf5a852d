// A table with one more column: YAKE's keywords of every row.
//
// The rows go out as they came in, byte for byte (in UTF-8 where the format names another encoding),
// with the keywords behind them, best first. As JSON every row is an object with its columns, the
// keywords as a list, and their scores.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>

#include "corpus/csv.h"
#include "corpus/keywords.h"
#include "corpus/reading_report.h"

namespace quire {

struct KeywordTableOptions {
  std::string text_column;  ///< empty: "text", or the only one
  std::string output_column = "keywords";
  KeywordOptions keywords;
  int threads = 0;    ///< 0 is one per core; the result is the same
  bool json = false;  ///< an object a line
};

struct KeywordCounts {
  std::size_t rows = 0, keywords = 0;
  bool stopped = false;  ///< before all rows were read
};

struct KeywordCallbacks {
  std::function<void(std::string_view)> write;
  std::function<bool()> stop_requested;
};

/// The column that holds the texts. Throws Error where there is none, Error(usage) where the table
/// has the new one already. To be called before the first row is read.
std::size_t find_text_column(CsvReader& table, const KeywordTableOptions& options);

/// Reads all rows, and writes them block by block.
KeywordCounts add_keywords(CsvReader& table, std::size_t text_column, const StopWords& stop_words,
                           const KeywordTableOptions& options, ReadingReport& report,
                           const KeywordCallbacks& callbacks);

}  // namespace quire

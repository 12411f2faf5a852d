// Texts to be measured, and the keywords that each was asked to have.
//
//   .txt           texts with a line "---" between them, as `quire generate` writes several; or one
//                  on each line that is not blank, with line_by_line
//   .csv, .tsv     a text on each row (csv.h)
//   .jsonl         an object a line, as `quire generate --json` writes them: {"text": …}
//
// A text may be empty: a model that says nothing is measured too.
#pragma once

#include <string>
#include <vector>

#include "corpus/reading_report.h"
#include "corpus/text_format.h"

namespace quire {

struct Sample {
  std::string text;
  std::vector<std::string> keywords;
};

struct SampleOptions {
  std::vector<std::string> paths;  ///< files, folders of .txt, patterns
  std::string text_column;      ///< of a CSV, or a field of a JSONL; empty: "text", or the only one
  std::string keywords_column;  ///< keywords between commas, or a list in a JSONL; empty: none
  bool line_by_line = false;
  TextFormat format;
  std::string command;              ///< as CorpusOptions::command
  ReadingReport* report = nullptr;  ///< where given, gets what a person is to be told of the files
};

/// All samples, in order. Throws Error(bad_data) naming file, line and cause, also where no text
/// has a character, or no keyword is there; Error(usage) for keywords of a .txt.
std::vector<Sample> read_samples(const SampleOptions& options);

}  // namespace quire

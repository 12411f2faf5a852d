// The options that say how files become records, for every command that reads text.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "cli/flags.h"
#include "corpus/reading_report.h"
#include "corpus/records.h"
#include "pipeline/training_data.h"

namespace quire {

/// --encoding alone: for texts, not tables.
void add_encoding(Flags& flags, std::string& encoding);

/// --encoding, --delimiter and --no-header.
class TextFormatFlags {
 public:
  void add_to(Flags& flags);
  /// After parsing. Throws Error(usage) for an encoding or a delimiter that there is not.
  TextFormat finish() const;

 private:
  std::string encoding_, delimiter_;
  bool no_header_ = false;
};

class CorpusFlags {
 public:
  /// Opens the group "Data" with PATH, which --data names too.
  void add_paths(Flags& flags, CorpusOptions& corpus);
  void add_to(Flags& flags, CorpusOptions& corpus);
  /// After parsing: words into types.
  void finish(CorpusOptions& corpus) const;

 private:
  TextFormatFlags format_;
  std::vector<std::string> clean_;
};

/// "control changed 3 records, dropped 1": a line on stderr for each step.
void note_cleaning(const std::vector<StepCount>& counts);

/// The same as JSON.
nlohmann::ordered_json to_json(const std::vector<StepCount>& counts);

/// --validation-file, for every command that has data to learn from: `help` says what it is for.
void add_validation_file(Flags& flags, std::vector<std::string>& paths, const std::string& help);
/// That so many files of the data are validated on, and so not learnt from.
void note_left_out(std::size_t files);
/// All that is to be said of a run's data, on stderr.
DataCallbacks data_callbacks(bool tell_cleaning);

/// What reading came upon, on stderr: one warning or note of each kind, with its first place.
void tell(const ReadingReport& report);
/// "likely cp1252; try: …", or who else it may be; for lines that are not UTF-8.
std::string likely_encoding(const ReadingReport& report);

}  // namespace quire

// The options that say how files become records, for every command that reads text.
#pragma once

#include <string>
#include <vector>

#include "cli/flags.h"
#include "corpus/reading_report.h"
#include "corpus/records.h"

namespace quire {

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
  void add_to(Flags& flags, CorpusOptions& corpus);
  /// After parsing: words into types.
  void finish(CorpusOptions& corpus) const;

 private:
  TextFormatFlags format_;
  std::string loss_on_ = "all";
  std::vector<std::string> clean_;
};

/// "control changed 3 records, dropped 1": a line on stderr for each step.
void note_cleaning(const std::vector<StepCount>& counts);

/// --validation-file, for every command that has data to learn from: `help` says what it is for.
void add_validation_file(Flags& flags, std::vector<std::string>& paths, const std::string& help);
/// The files of `paths` without those of --validation-file, which often lie in the same folder; a
/// note says how many. `report` gets what of folders is passed over. Throws Error(usage) where
/// nothing is left, Error(bad_data) as find_files() does.
std::vector<std::string> without_validation(const std::vector<std::string>& paths,
                                            const std::vector<std::string>& validation_paths,
                                            ReadingReport& report);

/// What reading came upon, on stderr: one warning or note of each kind, with its first place.
void tell(const ReadingReport& report);
/// "likely cp1252; try: …", or who else it may be; for lines that are not UTF-8.
std::string likely_encoding(const ReadingReport& report);

}  // namespace quire

// The options that say how files become records, for every command that reads text.
#pragma once

#include <string>
#include <vector>

#include "cli/flags.h"
#include "corpus/records.h"

namespace quire {

class CorpusFlags {
 public:
  void add_to(Flags& flags, CorpusOptions& corpus);
  /// After parsing: words into types.
  void finish(CorpusOptions& corpus) const;

 private:
  std::string loss_on_ = "all";
  std::vector<std::string> clean_;
};

/// "control changed 3 records, dropped 1": a line on stderr for each step.
void note_cleaning(const std::vector<StepCount>& counts);

}  // namespace quire

// Models from the Hub, for `quire download` and for --download of the commands that take --model.
#pragma once

#include <string>
#include <vector>

#include "cli/flags.h"
#include "hub/download.h"

namespace quire {

/// download_model() with a moving line, and what is to be said of it on stderr. Ctrl-C stops it: what
/// came is kept.
Downloaded download_for_people(const HubModel& model, const std::vector<std::string>& include);

/// --download: what --model names, and is not here, is got first.
class DownloadFlag {
 public:
  void add_to(Flags& flags);
  /// Nothing without the flag, and nothing for a path, a bundled model or one that is here. False: stopped.
  [[nodiscard]] bool get(const std::string& model) const;

 private:
  bool wanted_ = false;
};

}  // namespace quire

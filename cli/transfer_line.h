// The moving line of what comes from the Hub and goes there.
#pragma once

#include <cstdint>
#include <string>

#include "cli/terminal.h"

namespace quire {

class TransferLine {
 public:
  /// `moved` of the `bytes` that are done were moved since the beginning: the speed follows from them.
  void show(const std::string& doing, const std::string& file, std::uint64_t bytes,
            std::uint64_t total, std::uint64_t moved);
  /// A line that stays, unless --quiet.
  void say(const std::string& line) { line_.print(line); }
  void clear() { line_.clear(); }

 private:
  ProgressLine line_;
  Stopwatch watch_;
};

}  // namespace quire

// The table of commands, in the order of `quire --help`.
#include "cli/command.h"

namespace quire {

std::span<const Command> commands() {
  static const Command kCommands[] = {
      kDemoCommand, kDoctorCommand,    kTrainCommand, kSweepCommand,    kGenerateCommand,
      kEvalCommand, kTokenizerCommand, kDataCommand,  kKeywordsCommand, kBenchCommand,
  };
  return kCommands;
}

}  // namespace quire

// The table of commands, in the order of `quire --help`.
#include "cli/command.h"

namespace quire {

std::span<const Command> commands() {
  // A command is in the table when its file is in the tree.
  static const Command kCommands[] = {
#if __has_include("cli/demo.cpp")
    kDemoCommand,
#endif
    kDoctorCommand,
    kTrainCommand,
    kGenerateCommand,
    kEvalCommand,
    kTokenizerCommand,
    kBenchCommand,
  };
  return kCommands;
}

}  // namespace quire

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
#if __has_include("cli/train.cpp")
    kTrainCommand,
#endif
#if __has_include("cli/generate.cpp")
    kGenerateCommand,
#endif
#if __has_include("cli/eval.cpp")
    kEvalCommand,
#endif
#if __has_include("cli/tokenizer.cpp")
    kTokenizerCommand,
#endif
#if __has_include("cli/bench.cpp")
    kBenchCommand,
#endif
  };
  return kCommands;
}

}  // namespace quire

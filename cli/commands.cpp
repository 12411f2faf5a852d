// The table of commands, in the order of `quire --help`, and how one is run.
#include "cli/command.h"

#include <fmt/format.h>

#include "base/error.h"
#include "base/nearest.h"
#include "cli/help_text.h"
#include "cli/terminal.h"

namespace quire {
namespace {

const Command kDataActions[] = {
    {"inspect", "what a data set holds, and what is wrong with it", run_data_inspect},
    {"prepare", "tokenize it ahead of time, for data larger than memory", run_data_prepare},
};

}  // namespace

const Command kDataCommand = {"data", "inspect, prepare: data sets before training", nullptr,
                              "Looks into data sets and prepares them.", kDataActions};

std::span<const Command> commands() {
  static const Command kCommands[] = {
      kDemoCommand, kDoctorCommand,    kTrainCommand,    kSweepCommand,    kGenerateCommand,
      kEvalCommand, kTokenizerCommand, kDataCommand,     kKeywordsCommand, kConvertCommand,
      kInfoCommand, kCardCommand,      kDownloadCommand, kUploadCommand,   kBenchCommand,
  };
  return kCommands;
}

int run_command(const Command& command, const std::vector<std::string>& arguments) {
  if (command.run != nullptr) return command.run(arguments);
  const std::string wanted = arguments.empty() ? "" : arguments.front();
  std::string list = fmt::format("{}\n\nUsage:\n", command.about);
  std::vector<std::string> names;
  for (const Command& action : command.actions) {
    if (action.name == wanted) return run_command(action, {arguments.begin() + 1, arguments.end()});
    list += fmt::format("  quire {} {:10}{}\n", command.name, action.name, action.summary);
    names.emplace_back(action.name);
  }
  const std::string help = fmt::format("quire {} --help", command.name);
  if (wanted == "--help" || wanted == "-h") {
    print_lines(list + fmt::format("\nquire {} {} --help, and so on, tells more.\n", command.name,
                                   names.front()));
    return 0;
  }
  if (wanted.empty()) {
    throw Error(Fault::usage, fmt::format("quire {} wants {}", command.name, listed(names, "or")),
                {}, help);
  }
  const std::string near = nearest(wanted, names);
  throw Error(Fault::usage, fmt::format("quire {} cannot '{}'", command.name, wanted),
              {near.empty() ? "there are " + listed(names, "and")
                            : fmt::format("did you mean quire {} {}?", command.name, near)},
              help);
}

}  // namespace quire

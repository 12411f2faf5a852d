#include "cli/subcommands.h"

#include <fmt/format.h>

#include "base/error.h"
#include "base/nearest.h"
#include "cli/help_text.h"
#include "cli/terminal.h"

namespace quire {

int run_action(std::string_view family, std::string_view about, std::span<const Command> actions,
               const std::vector<std::string>& arguments) {
  const std::string wanted = arguments.empty() ? "" : arguments.front();
  std::string list = fmt::format("{}\n\nUsage:\n", about);
  std::vector<std::string> names;
  for (const Command& action : actions) {
    if (action.name == wanted) return action.run({arguments.begin() + 1, arguments.end()});
    list += fmt::format("  quire {} {:10}{}\n", family, action.name, action.summary);
    names.emplace_back(action.name);
  }
  const std::string help = fmt::format("quire {} --help", family);
  if (wanted == "--help" || wanted == "-h") {
    print_lines(list + fmt::format("\nquire {} {} --help, and so on, tells more.\n", family,
                                   names.front()));
    return 0;
  }
  if (wanted.empty()) {
    throw Error(Fault::usage, fmt::format("quire {} wants {}", family, listed(names, "or")), {},
                help);
  }
  const std::string near = nearest(wanted, names);
  throw Error(Fault::usage, fmt::format("quire {} cannot '{}'", family, wanted),
              {near.empty() ? "there are " + listed(names, "and")
                            : fmt::format("did you mean quire {} {}?", family, near)},
              help);
}

}  // namespace quire

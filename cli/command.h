// A command of the program: its name, one line of help, and its main function.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace quire {

struct Command {
  std::string_view name;
  std::string_view summary;
  /// `arguments` are those after the command's name. Returns the exit code; throws Error.
  int (*run)(const std::vector<std::string>& arguments);
};

/// All commands in the order of `quire --help`.
std::span<const Command> commands();

}  // namespace quire

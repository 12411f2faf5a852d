// Commands that are a family: quire tokenizer train, quire bench generate.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cli/command.h"

namespace quire {

/// Runs the action named by the first argument with the others. `about` opens the family's --help.
/// An action that is missing or unknown throws Error(usage) with the list and the nearest name.
int run_action(std::string_view family, std::string_view about, std::span<const Command> actions,
               const std::vector<std::string>& arguments);

}  // namespace quire

// Options of transformers' scripts and of the tools around them that Quire does not have by that
// name: what stands in their place. Those that mean the same are aliases (option_names.h and the
// commands).
#pragma once

#include <span>
#include <string_view>

namespace quire {

struct ForeignOption {
  std::string_view names;     ///< in snake case, separated by spaces
  std::string_view commands;  ///< that answer so: "train", "train eval"; "" stands for all
  std::string_view answer;    ///< what to write instead, or why it can be left out
};

/// The table.
std::span<const ForeignOption> foreign_options();

/// The answer of a command to a name, in which '-' and '_' are alike; "" where there is none.
std::string_view foreign_answer(std::string_view command, std::string_view name);

}  // namespace quire

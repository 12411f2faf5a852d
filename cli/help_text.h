// How --help looks: what a command does, its options in groups, examples; in lines of any width.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace quire {

struct HelpOption {
  std::string name;                       ///< "learning-rate"
  std::vector<std::string> aliases = {};  ///< of one letter: short options
  std::string group;
  std::string value = {};                 ///< "N"; empty: a flag
  std::string text;                       ///< what it does
  std::vector<std::string> choices = {};  ///< what "NAME" may be, where `value` lists it too
  std::string default_text = {};          ///< empty: none is shown
};

struct HelpText {
  std::string command;   ///< "bench train"
  std::string synopsis;  ///< what follows it in the usage line
  /// Lines that begin with a space stand as they are, further ones are the text of paragraphs; an
  /// empty line ends one.
  std::string about;
  std::vector<HelpOption> options = {};  ///< groups in the order in which they come first
  std::vector<std::string> examples = {};
};

/// No word is broken; lines are longer than `columns` where a word is.
std::string format_help(const HelpText& help, int columns);

/// "a, b or c", with "or" for the last word.
std::string listed(const std::vector<std::string>& words, std::string_view last_word);

/// A line for the examples of a command's help.
std::string where_models_come_from();

}  // namespace quire

// A command of the program: its name, one line of help, and its main function; or of a family
// (quire tokenizer train, quire bench generate) its actions.
//
// To add one: write cli/NAME.cpp with `const Command kNameCommand = {"name", "…", run};`, declare
// it below, and give it a line in cli/commands.cpp.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace quire {

struct Command {
  std::string_view name;
  std::string_view summary;
  /// `arguments` are those after the command's name. Returns the exit code; throws Error. Null: the
  /// first of them names an action.
  int (*run)(const std::vector<std::string>& arguments);
  std::string_view about = {};  ///< opens a family's --help
  std::span<const Command> actions = {};
};

/// Runs it, or the action named by the first argument with the others. An action that is missing or
/// unknown throws Error(usage) with the list and the nearest name.
int run_command(const Command& command, const std::vector<std::string>& arguments);

/// All commands in the order of `quire --help`.
std::span<const Command> commands();

extern const Command kDemoCommand;
extern const Command kDoctorCommand;
extern const Command kTrainCommand;
extern const Command kSweepCommand;
extern const Command kGenerateCommand;
extern const Command kEvalCommand;
extern const Command kTokenizerCommand;
extern const Command kDataCommand;
extern const Command kKeywordsCommand;
extern const Command kConvertCommand;
extern const Command kInfoCommand;
extern const Command kCardCommand;
extern const Command kBenchCommand;
extern const Command kDownloadCommand;
extern const Command kUploadCommand;

// The actions of `quire tokenizer` and `quire data` that are in files of their own.
int run_tokenizer_add(const std::vector<std::string>& arguments);
int run_tokenizer_convert(const std::vector<std::string>& arguments);
int run_data_inspect(const std::vector<std::string>& arguments);
int run_data_prepare(const std::vector<std::string>& arguments);

}  // namespace quire

// Options become configs here, and only here.
//
// A command binds each of its options to a field of a config. The field's value at that moment is
// the option's default, so defaults are written down once, in the config:
//
//   GenerationConfig config;
//   Flags flags("generate", "[OPTION…]", "Writes text from a model.");
//   flags.group("Sampling");
//   flags.add("top-k", config.top_k, "K", "keep the K likeliest tokens; 0 keeps all", at_least(0));
//   flags.add("temperature,temp", config.temperature, "T", "below 1 sharpens", above(0));
//   if (!flags.parse(arguments)) return 0;  // --help was asked for and printed
//
// Options that several commands have take their names from cli/option_names.h; the help lists an
// option's aliases beside it, and options of other tools are answered by cli/foreign_options.h.
//
// '-' and '_' are alike in names; `--name value` and `--name=value` too; a flag may be followed by
// true or false, and `--no-NAME` turns it off. `--config-file FILE` reads options from a JSON
// object or from TOML's `name = value` lines; what stands on the command line wins. Whatever does
// not fit is an Error(usage) that names the option, the value and what is allowed.
#pragma once

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <functional>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "cli/help_text.h"

namespace quire {

/// What a message of the library, which names fields, says to a user of the program:
/// "--max-new-tokens" for "max_new_tokens". A table has those whose flag has another name.
std::string flag_of(std::string_view field);

/// What a number may be.
struct Range {
  double low = -std::numeric_limits<double>::infinity();
  double high = std::numeric_limits<double>::infinity();
  bool low_excluded = false;
};
constexpr Range at_least(double low) {
  return {.low = low};
}
constexpr Range above(double low) {
  return {.low = low, .low_excluded = true};
}
constexpr Range between(double low, double high) {
  return {.low = low, .high = high};
}
/// Above `low` and at most `high`.
constexpr Range within(double low, double high) {
  return {.low = low, .high = high, .low_excluded = true};
}

template <class T>
concept Number = std::is_arithmetic_v<T> && !std::is_same_v<T, bool>;
template <class T>
concept Text = std::is_same_v<T, std::string> || std::is_same_v<T, std::filesystem::path>;

/// How a list takes its values.
enum class ListStyle {
  repeated,  ///< one after each mention of the option: --stop A --stop B
  several,   ///< also several after one mention, up to the next option: --data a.txt b.txt
};

class Flags {
 public:
  /// `command` as typed ("tokenizer train"); `synopsis` follows it in the usage line.
  Flags(std::string command, std::string synopsis, std::string about);
  Flags(const Flags&) = delete;
  Flags& operator=(const Flags&) = delete;
  ~Flags();

  /// Heads the options added from here on in --help.
  void group(std::string title);

  /// `names`: the option's name and after it, separated by commas, its aliases; a single letter is
  /// a short option: "prompt,p". `value` stands for the value in --help.
  void add(const std::string& names, bool& target, const std::string& help);
  /// An int, std::int64_t, std::uint64_t, float or double.
  template <Number T>
  void add(const std::string& names, T& target, const std::string& value, const std::string& help,
           Range range = {});
  template <Text T>
  void add(const std::string& names, T& target, const std::string& value, const std::string& help);
  void add(const std::string& names, std::vector<std::string>& target, const std::string& value,
           const std::string& help, ListStyle style = ListStyle::repeated);
  /// One of a few words.
  void add_choice(const std::string& names, std::string& target,
                  const std::vector<std::string>& choices, const std::string& help);
  /// One of a few values, each by its word. The default is the first that is the target's value.
  template <class T>
  requires(!Text<T>) void add_choice(const std::string& names, T& target,
                                     const std::vector<std::pair<std::string, T>>& choices,
                                     const std::string& help) {
    std::vector<std::string> words;
    std::size_t now = choices.size();
    for (const auto& [word, value] : choices) {
      if (value == target) now = std::min(now, words.size());
      words.push_back(word);
    }
    add_words(names, words.at(now), words, help,
              [&target, choices](std::size_t i) { target = choices[i].second; });
  }

  /// --quiet: no notes and no progress on stderr (see cli/terminal.h). parse() applies it.
  void add_quiet();

  /// Arguments without a name, in front of what is there by then: an option may name the same list.
  /// Without this call there must be none.
  void positional(const std::string& value, std::vector<std::string>& target);
  /// A line at the end of --help.
  void example(std::string line);

  /// Sets the bound fields. False: --help was asked for and has been printed.
  [[nodiscard]] bool parse(const std::vector<std::string>& arguments);

  /// The first name, in snake case, of the option with that name or alias. Throws Error(usage) with
  /// the nearest one, as parse() does.
  std::string name_of(const std::string& name_or_alias) const;
  /// Whether the option stood on the command line or in the config file.
  bool given(const std::string& name) const;
  /// All options with their values as a JSON object in snake case, fit for --config-file.
  std::string resolved_json() const;
  /// --help in lines of so many columns.
  std::string help(int columns) const;
  /// "quire COMMAND --help", the next step after a usage error.
  std::string help_command() const;
  /// Throws Error(usage), with help_command() to try.
  [[noreturn]] void refuse(const std::string& what, std::vector<std::string> details = {}) const;

 private:
  struct Option;
  Option& add_option(const std::string& names, const std::string& value, const std::string& help);
  void add_words(const std::string& names, const std::string& word,
                 const std::vector<std::string>& choices, const std::string& help,
                 std::function<void(std::size_t)> choose);
  Option* find(std::string_view name) const;
  Option& require(const std::string& shown_name) const;
  std::string advice_for(const std::string& name) const;
  [[noreturn]] void throw_unknown(std::span<const std::string> arguments) const;
  struct Typed;
  Typed read(const std::vector<std::string>& arguments);
  void read_config_file(const std::string& path);

  HelpText text_;  // without the options
  std::string group_ = "Options";
  std::vector<std::unique_ptr<Option>> options_;
  std::string positional_name_;
  std::vector<std::string>* positional_ = nullptr;
  bool quiet_ = false;
};

}  // namespace quire

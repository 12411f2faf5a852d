#include "cli/flags.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <utility>

#include "base/error.h"
#include "base/json.h"
#include "base/nearest.h"
#include "base/text.h"
#include "cli/config_file.h"
#include "cli/foreign_options.h"
#include "cli/help_text.h"
#include "cli/terminal.h"
#include "corpus/json_line.h"

namespace quire {

struct Flags::Option : HelpOption {
  bool is_flag = false, is_list = false, takes_several = false;
  bool given = false;
  std::string word;                                     // chosen of a few
  std::function<void(const std::string& text)> assign;  // lists: appends
  std::function<void()> clear = [] {};                  // lists: forgets what was there
  std::function<nlohmann::json()> read;
};

/// What stands on a command line, in its order.
struct Flags::Typed {
  bool help = false;
  std::vector<std::string> config_files;
  std::vector<std::pair<Option*, std::string>> values;
  std::vector<std::string> others;
};

namespace {

constexpr int kHelpColumns = 100;  // at most; where there is no terminal, exactly
constexpr const char* kOtherGroup = "Other";

// The fields whose flags have other names.
constexpr std::pair<std::string_view, std::string_view> kOtherFlags[] = {
    {"header", "--no-header"},
    {"lines_of", "--split"},
    {"loss_on_completion", "--loss-on completion"},
    {"max_seconds", "--max-time"},
    {"paths", "--data"},
    {"prompt_files", "--prompt-file"},
    {"prompts", "--prompt"},
    {"sample_prompts", "--sample-prompt"},
    {"steps", "--clean"},
    {"target_modules", "--lora-target-modules"},
    {"template_text", "--template"},
    {"validation_paths", "--validation-file"},
    {"validation_share", "--validation-split"},
    {"zero", "--zero 1"},
};

std::string with_hyphens(std::string_view name) {
  std::string text(name);
  std::replace(text.begin(), text.end(), '_', '-');
  return text;
}

std::string with_underscores(std::string_view name) {
  std::string text(name);
  std::replace(text.begin(), text.end(), '-', '_');
  return text;
}

std::string as_typed(const std::string& name) {
  return (name.size() == 1 ? "-" : "--") + name;
}

std::optional<bool> to_bool(const std::string& text) {
  const std::string word = lower_ascii(text);
  if (word == "true" || word == "1" || word == "yes") return true;
  if (word == "false" || word == "0" || word == "no") return false;
  return std::nullopt;
}

std::string describe(const Range& range) {
  const std::string low = compact_number(range.low), high = compact_number(range.high);
  if (!std::isfinite(range.low)) return "at most " + high;
  if (!std::isfinite(range.high)) return (range.low_excluded ? "above " : "at least ") + low;
  return range.low_excluded ? fmt::format("above {} and at most {}", low, high)
                            : fmt::format("between {} and {}", low, high);
}

// The whole text as a number of type T within the range, or an Error that names the option.
template <class T>
T to_number(const std::string& name, const std::string& text, const Range& range) {
  T value{};
  const char* begin = text.data();
  const char* end = begin + text.size();
  if (begin != end && *begin == '+') ++begin;
  const auto [stop, trouble] = std::from_chars(begin, end, value);
  if (trouble == std::errc::result_out_of_range) {
    throw Error(Fault::usage, as_typed(name) + " " + text + " is too large a number");
  }
  if (trouble != std::errc() || stop != end) {
    throw Error(Fault::usage,
                fmt::format("{} wants a {}, not '{}'", as_typed(name),
                            std::is_floating_point_v<T> ? "number" : "whole number", text));
  }
  const double number = static_cast<double>(value);
  const bool inside = range.low_excluded ? number > range.low : number >= range.low;
  if (!inside || !(number <= range.high)) {
    throw Error(Fault::usage, as_typed(name) + " is " + text + ", it must be " + describe(range));
  }
  return value;
}

}  // namespace

std::string flag_of(std::string_view field) {
  for (const auto& [name, flag] : kOtherFlags) {
    if (name == field) return std::string(flag);
  }
  return "--" + with_hyphens(field);
}

Flags::Flags(std::string command, std::string synopsis, std::string about)
    : text_{.command = std::move(command),
            .synopsis = std::move(synopsis),
            .about = std::move(about)} {}

Flags::~Flags() = default;

void Flags::group(std::string title) {
  group_ = std::move(title);
}
void Flags::example(std::string line) {
  text_.examples.push_back(std::move(line));
}
std::string Flags::help_command() const {
  return "quire " + text_.command + " --help";
}
void Flags::refuse(const std::string& what, std::vector<std::string> details) const {
  throw Error(Fault::usage, what, std::move(details), help_command());
}

void Flags::add_quiet() {
  add("quiet,q", quiet_, "no notes and no progress on stderr");
}

void Flags::positional(const std::string& value, std::vector<std::string>& target) {
  positional_name_ = value;
  positional_ = &target;
}

Flags::Option& Flags::add_option(const std::string& names, const std::string& value,
                                 const std::string& help) {
  auto option = std::make_unique<Option>();
  for (const std::string& part : split_at_commas(names)) {
    const std::string name = with_hyphens(part);
    if (find(name) != nullptr)
      throw Error(Fault::internal, "option --" + name + " is declared twice");
    (option->name.empty() ? option->name : option->aliases.emplace_back()) = name;
  }
  option->group = group_;
  option->value = value;
  option->text = help;
  options_.push_back(std::move(option));
  return *options_.back();
}

void Flags::add(const std::string& names, bool& target, const std::string& help) {
  Option& option = add_option(names, "", help);
  option.is_flag = true;
  option.assign = [&target, name = option.name](const std::string& text) {
    const std::optional<bool> value = to_bool(text);
    if (!value) throw Error(Fault::usage, as_typed(name) + " is true or false, not '" + text + "'");
    target = *value;
  };
  option.read = [&target] { return nlohmann::json(target); };
}

template <Number T>
void Flags::add(const std::string& names, T& target, const std::string& value,
                const std::string& help, Range range) {
  Option& option = add_option(names, value, help);
  option.assign = [&target, name = option.name, range](const std::string& text) {
    target = to_number<T>(name, text, range);
  };
  if constexpr (std::is_same_v<T, float>) {
    // Through the shortest text that reads back as this float: 0.1, not 0.10000000149.
    option.read = [&target] { return nlohmann::json(std::stod(compact_number(target))); };
  } else {
    option.read = [&target] { return nlohmann::json(target); };
  }
  if constexpr (std::is_floating_point_v<T>) {
    option.default_text = compact_number(target);
  } else {
    option.default_text = std::to_string(target);
  }
}

template <Text T>
void Flags::add(const std::string& names, T& target, const std::string& value,
                const std::string& help) {
  Option& option = add_option(names, value, help);
  const auto text_of_it = [&target] { return std::filesystem::path(target).string(); };
  option.default_text = text_of_it();
  option.assign = [&target](const std::string& text) { target = text; };
  option.read = text_of_it;
}

using Words = const std::string&;
template void Flags::add(Words, int&, Words, Words, Range);
template void Flags::add(Words, std::int64_t&, Words, Words, Range);
template void Flags::add(Words, std::uint64_t&, Words, Words, Range);
template void Flags::add(Words, float&, Words, Words, Range);
template void Flags::add(Words, double&, Words, Words, Range);
template void Flags::add(Words, std::string&, Words, Words);
template void Flags::add(Words, std::filesystem::path&, Words, Words);

void Flags::add(const std::string& names, std::vector<std::string>& target,
                const std::string& value, const std::string& help, ListStyle style) {
  Option& option = add_option(names, value, help);
  option.is_list = true;
  option.takes_several = style == ListStyle::several;
  option.default_text = fmt::format("{}", fmt::join(target, " "));
  option.assign = [&target](const std::string& text) { target.push_back(text); };
  option.clear = [&target] { target.clear(); };
  option.read = [&target] { return nlohmann::json(target); };
}

void Flags::add_choice(const std::string& names, std::string& target,
                       const std::vector<std::string>& choices, const std::string& help) {
  add_words(names, target, choices, help,
            [&target, choices](std::size_t i) { target = choices[i]; });
}

void Flags::add_words(const std::string& names, const std::string& word,
                      const std::vector<std::string>& choices, const std::string& help,
                      std::function<void(std::size_t)> choose) {
  const std::string all = fmt::format("{}", fmt::join(choices, "|"));
  // As a value in the help they must fit beside the option's name.
  constexpr std::size_t kShort = 50;
  Option& option = all.size() <= kShort
                       ? add_option(names, all, help)
                       : add_option(names, "NAME", help + ": " + listed(choices, "or"));
  option.default_text = option.word = word;
  if (option.value == all) option.choices = choices;
  option.assign = [&option, choices, all, choose = std::move(choose)](const std::string& text) {
    const auto found = std::find(choices.begin(), choices.end(), text);
    if (found == choices.end()) {
      const std::string near = nearest(text, choices), typed = as_typed(option.name);
      throw Error(Fault::usage, typed + " cannot be '" + text + "'", {"choices: " + all},
                  near.empty() ? "" : typed + " " + near);
    }
    option.word = text;
    choose(static_cast<std::size_t>(found - choices.begin()));
  };
  option.read = [&option] { return option.word; };
}

Flags::Option* Flags::find(std::string_view name) const {
  const std::string wanted = with_hyphens(name);
  for (const auto& option : options_) {
    const bool by_alias = std::ranges::find(option->aliases, wanted) != option->aliases.end();
    if (by_alias || option->name == wanted) return option.get();
  }
  return nullptr;
}

// What to write for a name that no option has: of another tool, or with a typo.
// Empty: nobody knows.
std::string Flags::advice_for(const std::string& name) const {
  if (const std::string_view answer = foreign_answer(text_.command, name); !answer.empty()) {
    return (answer.starts_with("--") ? "use " : "") + std::string(answer);
  }
  std::vector<std::string> names = {"help", "config-file"};
  for (const auto& option : options_) {
    names.push_back(option->name);
    names.insert(names.end(), option->aliases.begin(), option->aliases.end());
  }
  const std::string near = nearest(with_hyphens(name), names);
  return near.empty() ? "" : "did you mean " + as_typed(near) + "?";
}

Flags::Option& Flags::require(const std::string& shown_name) const {
  if (Option* option = find(shown_name)) return *option;
  const std::string advice = advice_for(shown_name);
  refuse("quire " + text_.command + " has no option " + as_typed(shown_name),
         advice.empty() ? std::vector<std::string>() : std::vector{advice});
}

// The first of the arguments is an unknown option. Whoever brings a command line from another tool
// has more of them, which are all told at once.
void Flags::throw_unknown(std::span<const std::string> arguments) const {
  std::vector<std::string> unknown;
  for (const std::string& argument : arguments) {
    if (argument == "--") break;
    const bool is_long = argument.starts_with("--");
    if (!is_long && &argument != arguments.data()) continue;
    const std::string typed = argument.substr(0, is_long ? argument.find('=') : 2);
    const std::string name = with_hyphens(typed.substr(typed.find_first_not_of('-')));
    const bool known = name == "help" || name == "config-file" || find(name) != nullptr ||
                       (name.starts_with("no-") && find(name.substr(3)) != nullptr);
    if (&argument != arguments.data() && known) continue;
    if (std::find(unknown.begin(), unknown.end(), typed) == unknown.end()) unknown.push_back(typed);
  }
  std::vector<std::string> details;
  for (const std::string& typed : unknown) {
    const std::string advice = advice_for(typed.substr(typed.find_first_not_of('-')));
    if (unknown.size() == 1) {
      if (!advice.empty()) details.push_back(advice);
    } else {
      details.push_back(typed + ": " + (advice.empty() ? "unknown" : advice));
    }
  }
  refuse(fmt::format("quire {} has no option{} {}", text_.command, unknown.size() == 1 ? "" : "s",
                     listed(unknown, "or")),
         std::move(details));
}

namespace {

// "--name=value" and "-nvalue" as they are typed, the name with hyphens.
std::pair<std::string, std::optional<std::string>> take_apart(const std::string& argument) {
  const bool is_long = argument[1] == '-';
  const std::size_t begin = is_long ? 2 : 1;
  const std::size_t end = is_long ? std::min(argument.find('='), argument.size()) : 2;
  std::string name = with_hyphens(argument.substr(begin, end - begin));
  if (end == argument.size()) return {std::move(name), std::nullopt};
  return {std::move(name), argument.substr(argument[end] == '=' ? end + 1 : end)};
}

}  // namespace

// No further than to where help is asked for.
Flags::Typed Flags::read(const std::vector<std::string>& arguments) {
  Typed typed;
  const auto is_option = [&](const std::string& text) {
    if (text.size() < 2 || text[0] != '-') return false;
    return text[1] == '-' || (std::isalpha(static_cast<unsigned char>(text[1])) != 0);
  };
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const std::string& argument = arguments[i];
    if (argument == "--") {
      typed.others.insert(typed.others.end(),
                          arguments.begin() + static_cast<std::ptrdiff_t>(i) + 1, arguments.end());
      break;
    }
    if (!is_option(argument)) {
      typed.others.push_back(argument);
      continue;
    }
    auto [name, value] = take_apart(argument);
    const std::string* const next = i + 1 < arguments.size() ? &arguments[i + 1] : nullptr;
    typed.help = name == "help" || name == "h";
    if (typed.help) break;
    if (name == "config-file") {
      if (!value && next == nullptr) refuse("--config-file wants a file");
      typed.config_files.push_back(value ? *value : arguments[++i]);
      continue;
    }
    Option* option = find(name);
    Option* const positive = name.starts_with("no-") ? find(name.substr(3)) : nullptr;
    const bool negated = option == nullptr && positive != nullptr && positive->is_flag;
    if (negated) {
      option = positive;
      name.erase(0, 3);
    }
    // "--p" is no way to write "-p": in other tools it is another option.
    if (option == nullptr || (argument[1] == '-' && name.size() == 1)) {
      throw_unknown(std::span(arguments).subspan(i));
    }
    if (option->is_flag) {
      // "true", "false": not "1", which may be a file.
      const bool said = next != nullptr && next->size() > 3 && to_bool(*next);
      if (!value && said) value = arguments[++i];
      if (!value) value = "true";
      if (negated) value = to_bool(*value).value_or(true) ? "false" : "true";
    } else if (!value) {
      // The next argument is the value whatever it looks like, unless it is an option of ours.
      if (next == nullptr ||
          (next->starts_with("--") && find(next->substr(2, next->find('=') - 2)) != nullptr)) {
        refuse(as_typed(name) + " wants a value: " + option->value);
      }
      value = arguments[++i];
    }
    typed.values.emplace_back(option, *value);
    while (option->takes_several && i + 1 < arguments.size() && !is_option(arguments[i + 1])) {
      typed.values.emplace_back(option, arguments[++i]);
    }
  }
  return typed;
}

std::string Flags::help(int columns) const {
  HelpText help = text_;
  for (const auto& option : options_) help.options.push_back(*option);
  help.options.push_back({.name = "config-file",
                          .group = kOtherGroup,
                          .value = "FILE",
                          .text = "options as JSON or TOML; those typed win"});
  help.options.push_back(
      {.name = "help", .aliases = {"h"}, .group = kOtherGroup, .text = "this text"});
  return format_help(help, columns);
}

void Flags::read_config_file(const std::string& path) {
  for (const ConfigEntry& entry : quire::read_config_file(path)) {
    try {
      Option& option = require(entry.name);
      if (entry.values.size() != 1 && !option.is_list) {
        throw Error(Fault::usage, as_typed(option.name) + " takes one value, not a list");
      }
      option.clear();
      for (const std::string& value : entry.values) option.assign(value);
      option.given = true;
    } catch (Error& error) {
      error.add_place("in " + path + ", key '" + entry.name + "'");
      throw;
    }
  }
}

bool Flags::parse(const std::vector<std::string>& arguments) {
  const Typed typed = read(arguments);
  if (typed.help) {
    // Elsewhere as wide as here, whatever the terminal: what is written to a file has one form.
    print(help(std::min(output_columns(kHelpColumns), kHelpColumns)));
    return false;
  }

  for (const std::string& path : typed.config_files) read_config_file(path);
  std::set<const Option*> seen;
  for (const auto& [option, value] : typed.values) {
    if (seen.insert(option).second) option->clear();
    try {
      option->assign(value);
    } catch (Error& error) {
      if (error.next().empty()) error.set_next(help_command());
      throw;
    }
    option->given = true;
  }
  if (!typed.others.empty() && positional_ == nullptr) {
    refuse("unexpected argument '" + typed.others.front() + "'",
           {"quire " + text_.command + " takes options only"});
  }
  if (positional_ != nullptr) {
    positional_->insert(positional_->begin(), typed.others.begin(), typed.others.end());
  }
  if (quiet_) set_quiet();
  return true;
}

std::string Flags::name_of(const std::string& name_or_alias) const {
  return with_underscores(require(name_or_alias).name);
}

bool Flags::given(const std::string& name) const {
  const Option* option = find(name);
  if (option == nullptr) throw Error(Fault::internal, "no option --" + name + " is declared");
  return option->given;
}

std::string Flags::resolved_json() const {
  nlohmann::ordered_json object;
  for (const auto& option : options_) object[with_underscores(option->name)] = option->read();
  return json_text(object, 2) + "\n";
}

}  // namespace quire

#include "engine/formats/adapter_config.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <iterator>
#include <nlohmann/json.hpp>
#include <regex>
#include <string_view>
#include <type_traits>

#include "base/error.h"
#include "base/json.h"

namespace quire {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;  // patterns count in the order of the file

using Fields = JsonFields<Json>;

/// "\"r\" is 4"
std::string shown(const std::string& name, const Json& value) {
  std::string text = json_text(value);
  constexpr std::size_t kShown = 80;
  if (text.size() > kShown) text = text.substr(0, kShown) + "…";
  return fmt::format("\"{}\" is {}", name, text);
}

/// Values that leave a field without effect.
bool is_off(const Json& value) {
  return value.is_null() || value == false || (value.is_structured() && value.empty());
}

// Without effect on what a trained adapter computes: about its making, or about other fields that
// are refused themselves. PEFT sets fan_in_fan_out by the kind of each module, whatever it says.
constexpr std::string_view kNoEffect[] = {
    "task_type",         "inference_mode", "auto_mapping",   "revision",           "peft_version",
    "fan_in_fan_out",    "megatron_core",  "loftq_config",   "eva_config",         "corda_config",
    "qalora_group_size", "runtime_config", "lora_ga_config", "ensure_weight_tying"};

/// What else was not read must be off: it may be of a PEFT to come.
void refuse_unknown(Fields& fields) {
  for (const std::string& name : fields.unknown()) {
    if (std::ranges::count(kNoEffect, name) > 0 || is_off(fields[name])) continue;
    fields.refuse(name, "nothing: such adapters are not understood",
                  "merge it with PEFT's merge_and_unload() and use the merged model");
  }
}

/// `init_lora_weights`: how A and B began. Some ways change the base's weights, too,
/// and the adapter is right on the changed ones alone.
std::string read_init(Fields& fields) {
  const Json& init = fields["init_lora_weights"];
  if (init.is_null() || init.is_boolean()) return "";
  std::string name;
  read_json(init, name);
  std::transform(name.begin(), name.end(), name.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  if (name == "gaussian" || name == "eva" || name == "orthogonal") return "";
  if (name == "pissa" || name == "olora") return name;
  fields.refuse(
      "init_lora_weights",
      "true, false, gaussian, eva, orthogonal, pissa or olora: what others take out of the "
      "base's weights cannot be told from the adapter",
      "save it with PEFT's path_initial_model_for_weight_conversion, or merge it with "
      "merge_and_unload()");
}

/// What Python's re knows and std::regex does not is refused, not read as something else; and what
/// is nested so deep that std::regex, which recurses, would end the stack, or has numbers that it
/// reads beyond 64 bits without a look.
std::regex compile(const std::string& pattern) {
  constexpr std::size_t kLongest = 1000;
  constexpr std::ptrdiff_t kDeepest = 50;
  const auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
  std::size_t digits = 0;
  for (const char c : pattern) {
    digits = is_digit(c) ? digits + 1 : 0;
    if (digits > 9) throw Error(Fault::bad_data, "the expression has a number of ten digits");
  }
  for (std::size_t i = 0; i + 1 < pattern.size(); ++i) {
    if (pattern[i] != '\\') continue;
    const char c = pattern[++i];
    if (is_digit(c)) throw Error(Fault::bad_data, "the expression has a back-reference");
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    if (letter && std::string_view("dDwWsSbBntrfv").find(c) == std::string_view::npos) {
      throw Error(Fault::bad_data, "the expression has \\" + std::string(1, c));
    }
  }
  if (pattern.size() > kLongest || std::count(pattern.begin(), pattern.end(), '(') > kDeepest) {
    throw Error(Fault::bad_data, fmt::format("the expression has more than {} characters or {} "
                                             "groups",
                                             kLongest, kDeepest));
  }
  auto flags = std::regex::ECMAScript;
#ifdef __GLIBCXX__
  // Through all states at once: one after the other, "(.*)*(.*)*(.*)*x" takes more than a minute
  // for 13 characters. Back-references cannot be had this way, and are refused.
  flags |= std::regex_constants::__polynomial;
#endif
  try {
    return std::regex(pattern, flags);
  } catch (const std::regex_error& error) {
    throw Error(Fault::bad_data, std::string("the expression is not understood: ") + error.what());
  }
}

/// `checked` is a pattern of the field: compiling it now lets its error name file and field.
void check_pattern(Fields& fields, const char* name, const std::string& checked) {
  try {
    (void)compile(checked);
  } catch (const Error& error) {
    fields.refuse(name,
                  std::string("a regular expression that std::regex has, too: ") + error.what(),
                  "write it as a list of modules");
  }
}

ModuleRule read_rule(Fields& fields, const char* name) {
  ModuleRule rule;
  if (!read_json(fields[name], rule.pattern)) {
    fields.read(name, rule.names, "a list of names, or an expression");
  } else if (rule.pattern == "all-linear") {
    rule = {{"c_attn", "c_proj", "c_fc"}, ""};
  } else {
    check_pattern(fields, name, rule.pattern);
  }
  return rule;
}

template <class T>
std::vector<std::pair<std::string, T>> read_pattern(Fields& fields, const char* name) {
  const Json& value = fields[name];
  if (value.is_null()) return {};
  if (!value.is_object()) fields.refuse(name, "an object of numbers by module");
  std::vector<std::pair<std::string, T>> pattern;
  for (const auto& [module, number] : value.items()) {
    const bool fits = std::is_integral_v<T> ? number.is_number_integer() : number.is_number();
    if (!fits || number.template get<double>() <= 0 || number.template get<double>() > 1e6) {
      fields.refuse(name, "numbers above 0");
    }
    check_pattern(fields, name, module);
    pattern.emplace_back(module, number.template get<T>());
  }
  return pattern;
}

/// A list, or what it would hold if there is but one.
template <class T>
std::vector<T> read_list(Fields& fields, const char* name, const char* wanted) {
  std::vector<T> list;
  if (read_json(fields[name], list.emplace_back())) return list;
  list.clear();
  fields.read(name, list, wanted);
  return list;
}

/// Whether a list of targets has modules outside of blocks' products.
bool reaches_beyond_blocks(const ModuleRule& targets) {
  for (const char* module : {"transformer.wte", "transformer.wpe", "lm_head"}) {
    if (targets.matches(module)) return true;
  }
  return false;
}

/// PEFT's get_pattern_key() (utils/other.py): the first that the end of the name matches.
template <class T>
T value_of(const std::vector<std::pair<std::string, T>>& pattern, const std::string& module,
           T otherwise) {
  for (const auto& [key, value] : pattern) {
    if (std::regex_match(module, compile("(.*\\.)?(" + key + ")"))) return value;
  }
  return otherwise;
}

}  // namespace

bool ModuleRule::matches(const std::string& module) const {
  if (!pattern.empty()) return std::regex_match(module, compile(pattern));
  return std::ranges::any_of(names, [&](const std::string& name) {
    return module == name || module.ends_with("." + name);
  });
}

bool AdapterConfig::is_target(const std::string& module) const {
  if (excluded.matches(module) || !targets.matches(module)) return false;
  const std::vector<int>& layers = lora.layers_to_transform;
  if (layers.empty() || std::ranges::count(targets.names, module) > 0) return true;
  std::vector<std::string> patterns = layers_pattern;
  if (patterns.empty()) patterns.emplace_back("[^.]*");
  for (const std::string& pattern : patterns) {
    std::smatch match;
    if (!std::regex_search(module, match, compile("^(?:.*\\.)?" + pattern + "\\.(\\d+)\\.")))
      continue;
    if (!match[match.size() - 1].matched) {  // "h|x": the number belongs to x alone
      throw Error(Fault::bad_data,
                  fmt::format("adapter_config.json: \"layers_pattern\" is \"{}\"", pattern),
                  {fmt::format("it matches {} without the number of its block", module)},
                  "write it in parentheses, or as a list");
    }
    return std::ranges::count(layers, std::stoi(match[match.size() - 1])) > 0;
  }
  return false;
}

int AdapterConfig::rank_of(const std::string& module) const {
  return value_of(rank_pattern, module, lora.r);
}

float AdapterConfig::scale_of(const std::string& module) const {
  LoraConfig own = lora;
  own.r = rank_of(module);
  own.lora_alpha = value_of(alpha_pattern, module, lora.lora_alpha);
  return own.scale();
}

AdapterConfig read_adapter_config(const fs::path& folder) {
  const fs::path path = folder / "adapter_config.json";
  const Json json = parse_json_file<Json>(path);
  if (!json.is_object()) throw Error(Fault::bad_data, path.string() + " is not a JSON object");
  Fields fields(json, path.string(),
                [&](const std::string& name, const Json& value, const std::string& wanted,
                    const std::string& next) {
                  return Error(Fault::bad_data,
                               fmt::format("{}: {}", path.string(), shown(name, value)),
                               {"expected " + wanted}, next);
                });
  if (fields["peft_type"] != "LORA") fields.refuse("peft_type", "\"LORA\"");
  AdapterConfig config;
  LoraConfig& lora = config.lora;
  if (!read_json(fields["r"], lora.r)) fields.refuse("r", "a whole number");
  fields.read("lora_alpha", lora.lora_alpha);
  if (!std::isfinite(lora.lora_alpha)) fields.refuse("lora_alpha", "a number");
  fields.read("lora_dropout", lora.lora_dropout);
  fields.read("use_rslora", lora.use_rslora);
  lora.layers_to_transform = read_list<int>(fields, "layers_to_transform", "a list of blocks");
  fields.read("base_model_name_or_path", config.base_model_name_or_path, "a path or a Hub name");
  config.targets = read_rule(fields, "target_modules");
  lora.target_modules = config.targets.names;
  config.excluded = read_rule(fields, "exclude_modules");
  config.layers_pattern = read_list<std::string>(fields, "layers_pattern", "a list of names");
  for (const std::string& pattern : config.layers_pattern) {
    check_pattern(fields, "layers_pattern", pattern);
  }
  config.rank_pattern = read_pattern<int>(fields, "rank_pattern");
  config.alpha_pattern = read_pattern<float>(fields, "alpha_pattern");
  fields.read("bias", config.bias, "none, all or lora_only");
  config.modules_to_save = read_list<std::string>(fields, "modules_to_save", "a list of names");
  fields.read("use_dora", config.use_dora);
  fields.read("lora_bias", config.lora_bias);
  config.init = read_init(fields);
  refuse_unknown(fields);
  if (config.targets.names.empty() && config.targets.pattern.empty()) {
    fields.refuse("target_modules", "a list of names, or an expression");
  }
  if (config.bias != "none" && config.bias != "all" && config.bias != "lora_only") {
    fields.refuse("bias", "none, all or lora_only");
  }

  const auto beyond = [&](const char* name, bool is) {
    if (is) config.beyond.push_back(shown(name, fields[name]));
  };
  beyond("target_modules",
         !config.targets.pattern.empty() || reaches_beyond_blocks(config.targets));
  beyond("exclude_modules", !is_off(fields["exclude_modules"]));
  beyond("layers_pattern",
         !config.layers_pattern.empty() && !is_off(fields["layers_to_transform"]));
  beyond("rank_pattern", !config.rank_pattern.empty());
  beyond("alpha_pattern", !config.alpha_pattern.empty());
  beyond("bias", config.bias != "none");
  beyond("modules_to_save", !config.modules_to_save.empty());
  beyond("use_dora", config.use_dora);
  beyond("lora_bias", config.lora_bias);
  beyond("init_lora_weights", !config.init.empty());
  return config;
}

}  // namespace quire

#include "cli/config_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/text.h"

namespace quire {
namespace {

using Json = nlohmann::ordered_json;

std::string as_typed(const Json& value) {
  return value.is_string() ? value.get<std::string>() : json_text(value);
}

ConfigEntry to_entry(const std::string& name, const Json& value, const std::string& where) {
  ConfigEntry entry{.name = name, .values = {}};
  const auto take = [&](const Json& item) {
    if (item.is_structured() || item.is_null()) {
      throw Error(Fault::bad_data, where + ": '" + name + "' is not a value an option can have",
                  {"allowed: text, a number, true, false, or a list of them"});
    }
    entry.values.push_back(as_typed(item));
  };
  if (value.is_array()) {
    for (const Json& item : value) take(item);
  } else {
    take(value);
  }
  return entry;
}

std::string_view trimmed(std::string_view text) {
  const std::size_t first = text.find_first_not_of(" \t\r");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t\r") - first + 1);
}

// The part of a line in front of a comment; '#' inside quotes is text.
std::string_view without_comment(std::string_view line) {
  char quote = 0;
  for (std::size_t i = 0; i < line.size(); ++i) {
    const char c = line[i];
    if (quote == '"' && c == '\\') {
      ++i;
    } else if (quote != 0) {
      if (c == quote) quote = 0;
    } else if (c == '"' || c == '\'') {
      quote = c;
    } else if (c == '#') {
      return line.substr(0, i);
    }
  }
  return line;
}

// TOML's values are JSON's, but for 'literal' strings, 1_000, +1 and a comma after the last item.
std::string toml_value_as_json(std::string_view text) {
  std::string json;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '"') {
      const std::size_t begin = i;
      for (++i; i < text.size() && text[i] != '"'; ++i) {
        if (text[i] == '\\') ++i;
      }
      json += text.substr(begin, i - begin + 1);
    } else if (c == '\'') {
      const std::size_t end = std::min(text.find('\'', i + 1), text.size());
      json += json_text(Json(std::string(text.substr(i + 1, end - i - 1))));
      i = end;
    } else if (c == ']') {
      while (!json.empty() && (json.back() == ' ' || json.back() == ',')) json.pop_back();
      json += c;
    } else if (c != '_' && c != '+') {
      json += c;
    }
  }
  return json;
}

std::vector<ConfigEntry> read_toml(std::string_view text, const std::string& file) {
  std::vector<ConfigEntry> entries;
  for (int number = 1; !text.empty(); ++number) {
    const std::string_view line = trimmed(without_comment(take_until('\n', text)));
    const std::string where = fmt::format("{}:{}", file, number);
    if (line.empty()) continue;
    if (line.front() == '[') {
      throw Error(Fault::bad_data, where + " begins a table",
                  {"every line is to be `option = value`: options have no sections"});
    }
    const std::size_t equals = line.find('=');
    std::string_view name = trimmed(line.substr(0, std::min(equals, line.size())));
    if (name.size() > 1 && name.front() == '"' && name.back() == '"') {
      name = name.substr(1, name.size() - 2);
    }
    if (equals == std::string_view::npos || name.empty()) {
      throw Error(Fault::bad_data, where + " is not `option = value`", {std::string(line)});
    }
    const Json value =
        parse_json_or_discard<Json>(toml_value_as_json(trimmed(line.substr(equals + 1))));
    if (value.is_discarded()) {
      throw Error(Fault::bad_data, where + ": cannot read the value of '" + std::string(name) + "'",
                  {std::string(line.substr(0, 200)),
                   "text stands in quotes, a list in brackets on one line"});
    }
    if (std::ranges::find(entries, name, &ConfigEntry::name) != entries.end()) {
      throw Error(Fault::bad_data, where + ": '" + std::string(name) + "' is set a second time");
    }
    entries.push_back(to_entry(std::string(name), value, where));
  }
  return entries;
}

std::vector<ConfigEntry> read_json(const std::string& text, const std::string& file) {
  Json object;
  try {
    object = parse_json<Json>(text);
  } catch (const Json::exception& error) {
    throw Error(Fault::bad_data, file + " is not valid JSON", {json_trouble(error)});
  }
  if (const auto twice = repeated_json_name(text)) {
    throw Error(Fault::bad_data, file + ": '" + *twice + "' is set a second time");
  }
  std::vector<ConfigEntry> entries;
  for (const auto& [name, value] : object.items()) {
    if (!value.is_null()) entries.push_back(to_entry(name, value, file));
  }
  return entries;
}

}  // namespace

std::vector<ConfigEntry> read_config_file(const std::filesystem::path& path) {
  const std::string text = read_file(path);
  const std::size_t first = text.find_first_not_of(" \t\r\n");
  if (first == std::string::npos) return {};
  return text[first] == '{' ? read_json(text, path.string()) : read_toml(text, path.string());
}

}  // namespace quire

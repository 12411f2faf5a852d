#include "corpus/json_line.h"

#include <algorithm>

#include "base/error.h"
#include "base/json.h"
#include "base/nearest.h"
#include "base/text.h"
#include "corpus/csv.h"
#include "corpus/input_file.h"
#include "corpus/records.h"

namespace quire {

using Json = nlohmann::json;

namespace {

std::string excerpt(const Json& value) {
  std::string text = value.dump(-1, ' ', true);
  if (text.size() > 40) text = text.substr(0, 37) + "...";
  return text;
}

}  // namespace

JsonLine::JsonLine(const std::filesystem::path& path, std::size_t line, std::string_view text)
    : path_(path), line_(line), invalid_utf8_(!is_utf8(text)) {
  try {
    // JSON must be UTF-8, but a stray byte in a text is no reason to stop.
    json_ = invalid_utf8_ ? parse_json<Json>(replace_invalid_utf8(text)) : parse_json<Json>(text);
  } catch (const Json::exception& error) {
    fail("it is not valid JSON: " + std::string(error.what()));
  }
  if (!json_.is_object()) {
    fail(std::string("it holds a JSON ") + json_.type_name() + ", not an object");
  }
}

std::string JsonLine::text(const std::string& name, const std::string& command,
                           const std::string& option) const {
  if (!has(name)) throw_no_field(name, command, option);
  return text_of(name, json_[name]);
}

std::vector<std::string> JsonLine::list(const std::string& name, const std::string& command,
                                        const std::string& option) const {
  if (!has(name)) throw_no_field(name, command, option);
  const Json& value = json_[name];
  if (!value.is_array()) return split_at_commas(text_of(name, value));
  std::vector<std::string> entries;
  for (const Json& entry : value) entries.push_back(text_of(name, entry));
  return entries;
}

std::vector<std::int32_t> JsonLine::ids(const char* name, bool labels) const {
  const Json& list = json_[name];
  if (!list.is_array()) fail(std::string(name) + " is " + excerpt(list) + ", not a list");
  std::vector<std::int32_t> ids;
  ids.reserve(list.size());
  for (const Json& entry : list) {
    const std::int64_t id = entry.is_number_integer() ? entry.get<std::int64_t>() : -1;
    if ((id < 0 || id > INT32_MAX) && !(labels && id == kIgnoredLabel)) {
      fail(std::string(name) + "[" + std::to_string(ids.size()) + "] is " + excerpt(entry) +
           (labels ? ", neither a token's id nor -100" : ", not a token's id"));
    }
    ids.push_back(static_cast<std::int32_t>(id));
  }
  return ids;
}

void JsonLine::fail(const std::string& why, const std::vector<std::string>& details,
                    const std::string& next) const {
  throw Error(Fault::bad_data, path_.string() + " line " + std::to_string(line_) + ": " + why,
              details, next);
}

std::string JsonLine::text_of(const std::string& name, const Json& value) const {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_null()) return {};
  if (value.is_number() || value.is_boolean()) return json_text(value);
  if (!value.is_array()) fail("'" + name + "' is " + excerpt(value) + ", not a text");
  std::string joined;
  for (const Json& entry : value) joined += (joined.empty() ? "" : ", ") + text_of(name, entry);
  return joined;
}

void JsonLine::throw_no_field(const std::string& name, const std::string& command,
                              const std::string& option) const {
  std::vector<std::string> names;
  std::string listed;
  for (const auto& [key, value] : json_.items()) {
    names.push_back(key);
    listed += (listed.empty() ? "fields: " : ", ") + key;
  }
  std::string choice = nearest(name, names);
  for (const auto& [key, value] : json_.items()) {
    if (choice.empty() && value.is_string() && option.ends_with("text-column")) choice = key;
  }
  const std::string start = command + (command == "quire train" ? " --model DIR --data " : " ");
  fail("there is no field '" + name + "'", {listed.empty() ? "the object is empty" : listed},
       choice.empty() ? "" : start + path_.string() + " " + option + " '" + choice + "'");
}

void for_each_json_line(const std::filesystem::path& path,
                        const std::function<void(const JsonLine&)>& take) {
  const InputFile file(path);
  std::string_view text = without_byte_order_mark(file.text(), path);
  for (std::size_t number = 1; !text.empty(); ++number) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    const std::string_view written = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (written.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    take(JsonLine(path, number, written));
  }
}

std::vector<std::string> split_at_commas(std::string_view text) {
  std::vector<std::string> parts;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find(','), text.size());
    const std::string_view part = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    const std::size_t first = part.find_first_not_of(" \t\n");
    if (first == std::string_view::npos) continue;
    parts.emplace_back(part.substr(first, part.find_last_not_of(" \t\n") - first + 1));
  }
  return parts;
}

}  // namespace quire

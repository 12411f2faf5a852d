#include "corpus/json_line.h"

#include <algorithm>

#include "base/error.h"
#include "base/json.h"
#include "base/nearest.h"
#include "base/text.h"
#include "corpus/encoding.h"
#include "corpus/input_file.h"
#include "corpus/json_text.h"
#include "corpus/records.h"

namespace quire {

using Json = nlohmann::json;

namespace {

std::string excerpt(const Json& value) {
  std::string text = value.dump(-1, ' ', true);
  if (text.size() > 40) text.replace(37, std::string::npos, "...");
  return text;
}

}  // namespace

JsonLine::JsonLine(const std::filesystem::path& path, std::size_t line, std::string_view text)
    : path_(path), line_(line), invalid_utf8_(!is_utf8(text)), written_(text) {
  if (const std::size_t zero = text.find('\0'); zero != std::string_view::npos) {
    fail("byte " + std::to_string(zero + 1) + " of the line is zero, and JSON has none",
         {"what is behind it would not be read"});
  }
  // JSON must be UTF-8, but a stray byte in a text is no reason to stop.
  if (invalid_utf8_) written_ = valid_ = replace_invalid_utf8(text);
  const StrictJson strict = strict_json(written_);
  lone_surrogate_ = strict.lone_surrogate;
  try {
    json_ = parse_json<Json>(strict.text.empty() ? written_ : strict.text);
  } catch (const Json::exception& error) {
    fail("it is not valid JSON: " + json_line_trouble(error));
  }
  if (!json_.is_object()) {
    fail(std::string("it holds a JSON ") + json_.type_name() + ", not an object");
  }
}

const Json& JsonLine::member(const std::string& name, const std::string& command,
                             const std::string& option) const {
  if (!has(name)) throw_no_field(name, command, option);
  require_once(name);
  return json_[name];
}

std::string JsonLine::text(const std::string& name, const std::string& command,
                           const std::string& option) const {
  const Json& value = member(name, command, option);
  return text_of(name, value, value.is_string() ? "" : written_member(written_, name));
}

std::vector<std::string> JsonLine::list(const std::string& name, const std::string& command,
                                        const std::string& option) const {
  const Json& value = member(name, command, option);
  const std::string_view written = written_member(written_, name);
  if (!value.is_array()) return split_at_commas(text_of(name, value, written));
  const std::vector<std::string_view> parts = written_entries(written);
  std::vector<std::string> entries;
  for (std::size_t i = 0; i < value.size(); ++i) {
    entries.push_back(text_of(name, value[i], parts.at(i)));
  }
  return entries;
}

std::vector<std::int32_t> JsonLine::ids(const char* name, bool labels) const {
  require_once(name);
  const Json& list = json_[name];
  if (!list.is_array()) fail(std::string(name) + " is " + excerpt(list) + ", not a list");
  std::vector<std::int32_t> ids;
  ids.reserve(list.size());
  for (const Json& entry : list) {
    const std::int64_t id = entry.is_number_integer() ? entry.get<std::int64_t>() : -1;
    if ((id < 0 || id > INT32_MAX) && !(labels && id == kIgnoredTarget)) {
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

std::string JsonLine::text_of(const std::string& name, const Json& value,
                              std::string_view written) const {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_null() && written == "null") return {};
  if (value.is_null()) fail("'" + name + "' is " + std::string(written) + ", not a text");
  if (value.is_number() || value.is_boolean()) return std::string(written);
  if (!value.is_array()) fail("'" + name + "' is " + excerpt(value) + ", not a text");
  const std::vector<std::string_view> parts = written_entries(written);
  std::string joined;
  for (std::size_t i = 0; i < value.size(); ++i) {
    joined += (joined.empty() ? "" : ", ") + text_of(name, value[i], parts.at(i));
  }
  return joined;
}

void JsonLine::require_once(const std::string& name) const {
  const std::string quoted = "\"" + name + "\"";
  const std::size_t first = written_.find(quoted);
  // Nearly always, in a fraction of what reading the line takes.
  if (first != std::string_view::npos &&
      written_.find(quoted, first + 1) == std::string_view::npos) {
    return;
  }
  std::size_t count = 0;
  written_member(written_, name, &count);
  if (count > 1) fail("the field '" + name + "' is there " + std::to_string(count) + " times");
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
    if (choice.empty() && value.is_string() && option.ends_with("text_column")) choice = key;
  }
  const std::string whole = command.empty() ? "" : command + " " + in_shell(path_.string()) + " ";
  fail("there is no field '" + name + "'", {listed.empty() ? "the object is empty" : listed},
       choice.empty() ? "" : whole + field_name(option) + " " + in_quotes(choice));
}

void for_each_json_line(const std::filesystem::path& path,
                        const std::function<void(const JsonLine&)>& take, const TextFormat& format,
                        ReadingReport* report) {
  const InputFile file(path, format);
  std::string_view text = without_byte_order_mark(file.text(), path);
  constexpr std::size_t kLetGo = 1 << 22;  // bytes at a time
  const char* kept = text.data();
  for (std::size_t number = 1; !text.empty(); ++number) {
    if (const auto passed = static_cast<std::size_t>(text.data() - kept); passed >= kLetGo) {
      file.let_go({kept, passed});
      kept = text.data();
    }
    const std::string_view written = take_until('\n', text);
    if (written.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    const JsonLine line(path, number, written);
    if (report != nullptr) {
      report->look(path, number, written);
      if (line.lone_surrogate()) report->surrogates.add(path, number);
    }
    take(line);
  }
}

std::vector<std::string> split_at_commas(std::string_view text) {
  std::vector<std::string> parts;
  while (!text.empty()) {
    const std::string_view part = take_until(',', text);
    const std::size_t first = part.find_first_not_of(" \t\n");
    if (first == std::string_view::npos) continue;
    parts.emplace_back(part.substr(first, part.find_last_not_of(" \t\n") - first + 1));
  }
  return parts;
}

}  // namespace quire

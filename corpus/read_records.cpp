#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/error.h"
#include "base/file.h"
#include "base/nearest.h"
#include "base/text.h"
#include "corpus/csv.h"
#include "corpus/file_kind.h"
#include "corpus/records.h"
#include "corpus/template.h"

namespace quire {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr const char* kDefaultColumn = "text";

// What becomes a record's text: one field, or a template of several.
struct Choice {
  explicit Choice(const CorpusOptions& options)
      : column(options.text_column), loss_on_completion(options.loss_on_completion) {
    if (options.template_text.empty()) {
      if (!loss_on_completion) return;
      throw Error(Fault::usage, "--loss-on completion needs a template",
                  {"what comes before its last column is the prompt"},
                  "--template \"{prompt} {completion}\"");
    }
    if (!column.empty()) {
      throw Error(Fault::usage, "--template and --text-column exclude each other",
                  {"a template of one column is \"{" + column + "}\""});
    }
    pattern.emplace(options.template_text);
  }
  Record record(const std::vector<std::string_view>& values) const {
    return {.text = pattern->fill(values),
            .input_ids = {},
            .labels = {},
            .prompt_bytes = loss_on_completion ? pattern->prompt(values).size() : 0};
  }
  std::string column;  // empty: not asked for
  std::optional<Template> pattern;
  bool loss_on_completion = false;
};

void add_text(std::vector<Record>& records, std::string text) {
  if (!text.empty()) records.push_back({.text = std::move(text), .input_ids = {}, .labels = {}});
}

std::string with_newlines(std::string_view text) {
  std::string result;
  result.reserve(text.size());
  while (true) {
    const std::size_t end = std::min(text.find('\r'), text.size());
    result += text.substr(0, end);
    if (end == text.size()) return result;
    const bool pair = end + 1 < text.size() && text[end + 1] == '\n';
    if (!pair) result += '\r';  // alone it is no line end
    text.remove_prefix(end + 1);
  }
}

void read_text(const fs::path& path, bool line_by_line, std::vector<Record>& records) {
  const MappedFile file(path);
  std::string text = with_newlines(without_byte_order_mark(file.text(), path));
  if (!line_by_line) {
    add_text(records, std::move(text));
    return;
  }
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    const std::string_view line = std::string_view(text).substr(at, end - at);
    if (line.find_first_not_of(" \t") != std::string_view::npos)
      add_text(records, std::string(line));
    at = end + 1;
  }
}

void read_table(const fs::path& path, const Choice& choice, std::vector<Record>& records) {
  CsvReader csv(path);
  std::vector<std::size_t> indexes;
  if (choice.pattern) {
    for (const std::string& name : choice.pattern->fields()) indexes.push_back(csv.column(name));
  } else if (choice.column.empty() && csv.columns().size() == 1) {
    indexes.push_back(0);
  } else {
    indexes.push_back(csv.column(choice.column.empty() ? kDefaultColumn : choice.column));
  }
  std::vector<std::string> fields;
  std::vector<std::string_view> values(indexes.size());
  while (csv.next(fields)) {
    bool blank = true;
    for (std::size_t i = 0; i < indexes.size(); ++i) {
      values[i] = fields[indexes[i]];
      blank &= values[i].empty();
    }
    if (blank) continue;
    if (choice.pattern) {
      records.push_back(choice.record(values));
    } else {
      add_text(records, std::string(values[0]));
    }
  }
}

// One line of a .jsonl file.
class JsonLine {
 public:
  JsonLine(const fs::path& path, std::size_t line, std::string_view text)
      : path_(path), line_(line) {
    try {
      // JSON must be UTF-8, but a stray byte in a text is no reason to stop.
      json_ = is_utf8(text) ? Json::parse(text) : Json::parse(replace_invalid_utf8(text));
    } catch (const Json::exception& error) {
      fail("it is not valid JSON: " + std::string(error.what()));
    }
    if (!json_.is_object())
      fail(std::string("it holds a JSON ") + json_.type_name() + ", not an object");
  }

  bool has(const char* name) const { return json_.contains(name); }

  /// A string; a number or truth value as written; null as nothing; a list of these joined by ", ".
  std::string text(const std::string& name) const {
    if (!json_.contains(name)) throw_no_field(name);
    return text_of(name, json_[name]);
  }

  std::vector<std::int32_t> ids(const char* name, bool labels) const {
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

  [[noreturn]] void fail(const std::string& why, const std::vector<std::string>& details = {},
                         const std::string& next = {}) const {
    throw Error(Fault::bad_data, path_.string() + " line " + std::to_string(line_) + ": " + why,
                details, next);
  }

 private:
  std::string text_of(const std::string& name, const Json& value) const {
    if (value.is_string()) return value.get<std::string>();
    if (value.is_null()) return {};
    if (value.is_number() || value.is_boolean()) return value.dump();
    if (!value.is_array()) fail("'" + name + "' is " + excerpt(value) + ", not a text");
    std::string joined;
    for (const Json& entry : value) joined += (joined.empty() ? "" : ", ") + text_of(name, entry);
    return joined;
  }

  [[noreturn]] void throw_no_field(const std::string& name) const {
    std::vector<std::string> names;
    std::string listed;
    for (const auto& [key, value] : json_.items()) {
      names.push_back(key);
      listed += (listed.empty() ? "fields: " : ", ") + key;
    }
    std::string choice = nearest(name, names);
    for (const auto& [key, value] : json_.items()) {
      if (choice.empty() && value.is_string()) choice = key;
    }
    fail("there is no field '" + name + "'", {listed.empty() ? "the object is empty" : listed},
         choice.empty() ? ""
                        : "quire train --model DIR --data " + path_.string() + " --text-column '" +
                              choice + "'");
  }

  static std::string excerpt(const Json& value) {
    std::string text = value.dump(-1, ' ', true);
    if (text.size() > 40) text = text.substr(0, 37) + "...";
    return text;
  }

  const fs::path& path_;
  std::size_t line_;
  Json json_;
};

void read_json_lines(const fs::path& path, const Choice& choice, std::vector<Record>& records) {
  const MappedFile file(path);
  std::string_view text = without_byte_order_mark(file.text(), path);
  for (std::size_t number = 1; !text.empty(); ++number) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    const std::string_view written = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (written.find_first_not_of(" \t\r") == std::string_view::npos) continue;

    const JsonLine line(path, number, written);
    if (choice.pattern) {
      std::vector<std::string> values;
      for (const std::string& name : choice.pattern->fields()) values.push_back(line.text(name));
      const bool blank =
          std::all_of(values.begin(), values.end(), [](const auto& v) { return v.empty(); });
      if (!blank) records.push_back(choice.record({values.begin(), values.end()}));
    } else if (choice.column.empty() && line.has("input_ids")) {
      Record record;
      record.input_ids = line.ids("input_ids", false);
      if (line.has("labels")) {
        record.labels = line.ids("labels", true);
        if (record.labels.size() != record.input_ids.size()) {
          line.fail("there are " + std::to_string(record.labels.size()) + " labels for " +
                        std::to_string(record.input_ids.size()) + " input_ids",
                    {"labels are aligned with the ids; -100 stands where nothing is to be learnt"});
        }
      }
      if (!record.input_ids.empty()) records.push_back(std::move(record));
    } else {
      add_text(records, line.text(choice.column.empty() ? kDefaultColumn : choice.column));
    }
  }
}

}  // namespace

std::vector<Record> read_records(const CorpusOptions& options) {
  const Choice choice(options);
  const std::vector<fs::path> files = find_files(options.paths);
  std::vector<Record> records;
  for (const fs::path& path : files) {
    switch (kind_of(path)) {
      case FileKind::text:
        read_text(path, options.line_by_line, records);
        break;
      case FileKind::table:
        read_table(path, choice, records);
        break;
      case FileKind::json_lines:
        read_json_lines(path, choice, records);
        break;
    }
  }
  if (records.empty()) {
    throw Error(Fault::bad_data,
                files.size() == 1 ? files[0].string() + " holds no text"
                                  : "the " + with_commas(files.size()) + " data files hold no text",
                {"there is nothing to learn from"});
  }
  return records;
}

}  // namespace quire

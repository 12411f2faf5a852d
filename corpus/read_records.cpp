#include <algorithm>
#include <optional>

#include "base/error.h"
#include "base/file.h"
#include "base/text.h"
#include "corpus/csv.h"
#include "corpus/file_kind.h"
#include "corpus/json_line.h"
#include "corpus/records.h"
#include "corpus/template.h"

namespace quire {
namespace {

namespace fs = std::filesystem;

constexpr const char* kDefaultColumn = "text";

// What becomes a record's text: one field, or a template of several.
struct Choice {
  explicit Choice(const CorpusOptions& options)
      : column(options.text_column),
        loss_on_completion(options.loss_on_completion),
        command(options.command),
        column_option(options.column_option) {
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
  std::string command, column_option;  // for errors
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
    for (const std::string& name : choice.pattern->fields())
      indexes.push_back(csv.column(name, choice.command, choice.column_option));
  } else if (choice.column.empty() && csv.columns().size() == 1) {
    indexes.push_back(0);
  } else {
    indexes.push_back(csv.column(choice.column.empty() ? kDefaultColumn : choice.column,
                                 choice.command, choice.column_option));
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

void read_json_lines(const fs::path& path, const Choice& choice, std::vector<Record>& records) {
  for_each_json_line(path, [&](const JsonLine& line) {
    if (choice.pattern) {
      std::vector<std::string> values;
      for (const std::string& name : choice.pattern->fields())
        values.push_back(line.text(name, choice.command, choice.column_option));
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
      add_text(records, line.text(choice.column.empty() ? kDefaultColumn : choice.column,
                                  choice.command, choice.column_option));
    }
  });
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

#include "pipeline/prompts.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <utility>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/text.h"
#include "corpus/csv.h"
#include "corpus/encoding.h"
#include "corpus/file_kind.h"
#include "corpus/input_file.h"
#include "corpus/template.h"

namespace quire {

namespace {

namespace fs = std::filesystem;

using Fields = std::vector<std::pair<std::string, std::string>>;

struct NamedText {
  std::string name;  ///< what errors call it; "" stands for its number
  std::string text;
  Fields fields = {};     ///< that filled its template
  bool one_line = false;  ///< of a file: it fails alone
};

void add_file(const std::string& name, const std::string& bytes, const TextFormat& format,
              bool line_by_line, ReadingReport& report, std::vector<NamedText>& texts) {
  const std::string converted = to_utf8(bytes, format.encoding, name);
  std::string text(without_byte_order_mark(converted, name));
  report.look(name, 1, text);
  if (without_last_line_break(text).empty()) {
    throw Error(Fault::bad_data, fmt::format("{} holds no prompt", name), {},
                "-p \"\", which begins a text anew");
  }
  if (!line_by_line) {
    texts.push_back({name, without_last_line_break(std::move(text))});
    return;
  }
  int number = 0;
  for (std::string& line : split_lines(with_newlines(text))) {
    texts.push_back(
        {.name = fmt::format("{}:{}", name, ++number), .text = std::move(line), .one_line = true});
  }
}

bool is_table(const std::string& path) {
  const std::string extension = lower_extension(path);
  return extension == ".csv" || extension == ".tsv";
}

/// The template that is asked for, or the one that stands in the model's folder.
Template find_template(const PromptOptions& prompts, const fs::path& model_folder) {
  std::string text = prompts.template_text;
  if (const fs::path path = model_folder / "quire_config.json"; text.empty() && fs::exists(path)) {
    const auto config = parse_json_or_discard<nlohmann::json>(read_file(path));
    if (config.is_object() && config.contains("template") && config["template"].is_string()) {
      text = config["template"];
    }
  }
  if (text.empty()) {
    throw Error(Fault::usage,
                prompts.keywords.empty() ? "a table of requests needs a template"
                                         : "`keywords` needs a template"_named,
                {model_folder.string() + " does not say on which one it was trained"},
                "`template_text` \"{keywords} => {quote}\""_named);
  }
  Template pattern(text);
  if (pattern.fields().size() < 2) {
    throw Error(Fault::usage, "the template \"" + text + "\" has a single field",
                {"the last field is what the model is to write, those before it are the prompt"},
                "`template_text` \"{keywords} => {quote}\""_named);
  }
  return pattern;
}

std::vector<NamedText> prompts_of_keywords(const PromptOptions& prompts, const Template& pattern) {
  if (pattern.fields().size() > 2) {
    throw Error(Fault::usage,
                "`keywords` fills one field, and the template has more before its last"_named,
                {"a table has a column for each"}, "`requests` FILE.csv"_named);
  }
  std::vector<NamedText> texts;
  for (const std::string& keywords : prompts.keywords) {
    texts.push_back({"", pattern.prompt({keywords}), {{pattern.fields()[0], keywords}}});
  }
  return texts;
}

std::vector<GenerateRequest> requests_of_table(const PromptOptions& prompts,
                                               const Template& pattern, const RequestReader& reader,
                                               const RequestOptions& options,
                                               const std::set<std::size_t>* lines,
                                               ReadingReport& report) {
  CsvReader table(prompts.requests, prompts.format, &report);
  std::vector<std::size_t> columns;
  for (std::size_t i = 0; i + 1 < pattern.fields().size(); ++i) {
    try {
      columns.push_back(table.column(pattern.fields()[i]));
    } catch (Error& error) {
      error.set_next("a `template_text` that names the table's columns"_named);
      throw;
    }
  }
  std::vector<GenerateRequest> requests;
  std::vector<std::string> fields;
  std::vector<std::string_view> values(columns.size());
  std::optional<Error> trouble;
  const auto is_full = [&] { return prompts.limit > 0 && std::ssize(requests) == prompts.limit; };
  while (!is_full() && table.next(fields, trouble)) {
    if (lines != nullptr && !lines->contains(table.line())) continue;
    std::string name = fmt::format("{}:{}", prompts.requests, table.line());
    if (trouble) {
      requests.push_back({.name = std::move(name), .prompt_ids = {}, .options = {}});
      requests.back().error = trouble;
      continue;
    }
    Fields used;
    for (std::size_t i = 0; i < columns.size(); ++i) {
      values[i] = fields[columns[i]];
      report.look(prompts.requests, table.line(), values[i]);
      used.emplace_back(pattern.fields()[i], fields[columns[i]]);
    }
    requests.push_back(reader.from_row(std::move(name), pattern.prompt(values), options));
    requests.back().fields = std::move(used);
  }
  if (requests.empty()) {
    throw Error(Fault::bad_data, fmt::format("{} has no rows", prompts.requests));
  }
  refuse_if_all_failed(requests);
  return requests;
}

/// Throws for options that would have no effect or exclude each other.
void check_prompts(const PromptOptions& prompts) {
  const bool has_table = is_table(prompts.requests);
  if (!prompts.template_text.empty() && prompts.keywords.empty() && !has_table) {
    throw Error(Fault::usage, "`template_text` has nothing to fill it"_named,
                {"it makes prompts of `keywords`, or of the rows of `requests` FILE.csv"_named},
                "`keywords` \"rain, roof\""_named);
  }
  if (prompts.lines_of && !has_table) {
    throw Error(Fault::usage,
                "`lines_of` takes of `requests` FILE.csv the rows of a run's part"_named, {},
                "`requests` FILE.csv, a table that the run read"_named);
  }
  if (prompts.requests.empty()) return;
  if (!prompts.prompts.empty() || !prompts.positional_prompts.empty() ||
      !prompts.prompt_files.empty() || !prompts.prompt_ids.empty() || !prompts.keywords.empty()) {
    throw Error(Fault::usage, "`requests` brings its own prompts"_named,
                {"leave out `prompts`, `prompt_files`, `prompt_ids` and `keywords`"_named});
  }
  if (!has_table && (prompts.format.delimiter != 0 || !prompts.format.header)) {
    throw Error(Fault::usage, "`delimiter` and `header` are for tables"_named,
                {"requests in JSON lines have neither"}, "`requests` FILE.csv"_named);
  }
}

/// Those of prompts.requests: JSON lines, or a table.
std::vector<GenerateRequest> requests_of_file(const PromptOptions& prompts,
                                              const RequestReader& reader,
                                              const RequestOptions& options,
                                              const fs::path& model_folder,
                                              const PromptCallbacks& callbacks) {
  ReadingReport report;
  std::vector<GenerateRequest> requests;
  if (is_table(prompts.requests)) {
    std::optional<std::set<std::size_t>> lines;
    if (prompts.lines_of) lines = prompts.lines_of(prompts.requests);
    requests = requests_of_table(prompts, find_template(prompts, model_folder), reader, options,
                                 lines ? &*lines : nullptr, report);
  } else {
    requests = reader.from_jsonl(prompts.requests, prompts.format.encoding, options, report);
    if (prompts.limit > 0 && std::ssize(requests) > prompts.limit) {
      requests.erase(requests.begin() + prompts.limit, requests.end());
    }
  }
  callbacks.on_read(report);
  return requests;
}

}  // namespace

std::string without_last_line_break(std::string text) {
  if (text.ends_with('\n')) text.pop_back();
  if (text.ends_with('\r')) text.pop_back();
  return text;
}

std::vector<GenerateRequest> collect_requests(const PromptOptions& prompts,
                                              const RequestReader& reader,
                                              const RequestOptions& options,
                                              const fs::path& model_folder,
                                              const PromptCallbacks& callbacks) {
  check_prompts(prompts);
  if (!prompts.requests.empty()) {
    return requests_of_file(prompts, reader, options, model_folder, callbacks);
  }
  const TextFormat& format = prompts.format;
  ReadingReport report;
  std::vector<NamedText> texts;
  for (const auto* list : {&prompts.positional_prompts, &prompts.prompts}) {
    for (const std::string& prompt : *list) texts.push_back({"", prompt});
  }
  for (const std::string& path : prompts.prompt_files) {
    add_file(path, read_file(path), format, prompts.line_by_line, report, texts);
  }
  if (!prompts.keywords.empty()) {
    std::vector<NamedText> filled =
        prompts_of_keywords(prompts, find_template(prompts, model_folder));
    std::move(filled.begin(), filled.end(), std::back_inserter(texts));
  }
  if (texts.empty() && prompts.prompt_ids.empty()) {
    add_file("standard input", callbacks.read_prompt(), format, prompts.line_by_line, report,
             texts);
  }
  callbacks.on_read(report);
  const std::size_t count = texts.size() + prompts.prompt_ids.size();
  std::vector<GenerateRequest> requests;
  const auto name = [&](const std::string& given) {
    if (count == 1) return std::string("the prompt");
    return given.empty() ? fmt::format("prompt {}", requests.size() + 1) : given;
  };
  for (NamedText& text : texts) {
    requests.push_back(text.one_line ? reader.from_row(name(text.name), text.text, options)
                                     : reader.from_text(name(text.name), text.text, options));
    requests.back().fields = std::move(text.fields);
  }
  for (const std::string& ids : prompts.prompt_ids) {
    requests.push_back(reader.from_ids(name(""), ids, options));
  }
  refuse_if_all_failed(requests);
  return requests;
}

}  // namespace quire

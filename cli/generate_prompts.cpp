#include "cli/generate_prompts.h"

#include <fmt/format.h>
#include <unistd.h>

#include <iostream>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/file.h"
#include "base/json.h"
#include "base/text.h"
#include "cli/terminal.h"
#include "corpus/csv.h"
#include "corpus/encoding.h"
#include "corpus/file_kind.h"
#include "corpus/input_file.h"
#include "corpus/template.h"
#include "pipeline/resources.h"

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

std::string without_last_line_break(std::string text) {
  if (text.ends_with('\n')) text.pop_back();
  if (text.ends_with('\r')) text.pop_back();
  return text;
}

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

/// What standard input holds; on a terminal one line, which is asked for.
std::string input_or_answer() {
  std::string text, why = "standard input is empty";
  if (::isatty(STDIN_FILENO) == 0) {
    text = read_standard_input();
  } else if (::isatty(STDERR_FILENO) != 0) {
    why = "nothing was typed";
    ask("The text begins with: ");
    if (!std::getline(std::cin, text)) ask("\n");  // Ctrl-D: what follows has a line of its own
  } else {
    why = "standard input is a terminal, and the question for one would not be seen";
  }
  if (!without_last_line_break(text).empty()) return text;
  throw Error(Fault::usage, "there is no prompt", {why},
              program_as_typed() + " generate -p \"Once upon a time\"; -p \"\" begins a text anew");
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
                                         : "--keywords needs a template",
                {model_folder.string() + " does not say on which one it was trained"},
                "--template \"{keywords} => {quote}\"");
  }
  Template pattern(text);
  if (pattern.fields().size() < 2) {
    throw Error(Fault::usage, "the template \"" + text + "\" has a single field",
                {"the last field is what the model is to write, those before it are the prompt"},
                "--template \"{keywords} => {quote}\"");
  }
  return pattern;
}

std::vector<NamedText> prompts_of_keywords(const PromptOptions& prompts, const Template& pattern) {
  if (pattern.fields().size() > 2) {
    throw Error(Fault::usage,
                "--keywords fills one field, and the template has more before its last",
                {"a table has a column for each"}, "--requests FILE.csv");
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
  CsvReader table(prompts.requests, prompts.format.finish(), &report);
  std::vector<std::size_t> columns;
  for (std::size_t i = 0; i + 1 < pattern.fields().size(); ++i) {
    try {
      columns.push_back(table.column(pattern.fields()[i]));
    } catch (const Error& error) {
      throw Error(error.fault(), error.what(), error.details(),
                  "a --template that names the table's columns");
    }
  }
  std::vector<GenerateRequest> requests;
  std::vector<std::string> fields;
  std::vector<std::string_view> values(columns.size());
  std::optional<Error> trouble;
  while (table.next(fields, trouble)) {
    if (lines != nullptr && !lines->contains(table.line())) continue;
    std::string name = fmt::format("{}:{}", prompts.requests, table.line());
    if (trouble) {
      requests.push_back({.name = std::move(name), .prompt_ids = {}, .options = {}});
      requests.back().error = trouble;
      if (std::ssize(requests) == prompts.limit) break;
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
    if (std::ssize(requests) == prompts.limit) break;
  }
  if (requests.empty()) {
    throw Error(Fault::bad_data, fmt::format("{} has no rows", prompts.requests));
  }
  refuse_if_all_failed(requests);
  return requests;
}

}  // namespace

void PromptOptions::add_to(Flags& flags) {
  flags.group("Prompts (none: standard input, or asked for on a terminal)");
  flags.add("prompt,p", prompts, "TEXT",
            "a prompt; may be given again; an empty one starts a text");
  flags.add("prompt-file", prompt_files, "FILE",
            "a file that is one prompt (its last line break is dropped); may be given again");
  format.add_to(flags);
  flags.add("line-by-line", line_by_line, "every line of a file or of standard input is a prompt");
  flags.add("prompt-ids", prompt_ids, "IDS", "a prompt as token ids, \"15496 995\"");
  flags.add("keywords", keywords, "A,B",
            "what the template's first field holds, a prompt each; may be given again");
  flags.add(
      "template", template_text, "TEXT",
      "how --keywords or a table's columns become a prompt; without it the one that the model "
      "was trained on");
  flags.add(
      "requests", requests, "FILE",
      "JSON lines of {\"prompt\"} or {\"prompt_ids\"} and any option; - is standard input; or "
      "a .csv whose rows fill the template");
  split.add_to(flags,
               "of a .csv of requests that a training run read the rows that it held out, or those "
               "that it learned from");
  flags.add("limit", limit, "N", "only the first N of the requests; 0: all", at_least(0));
}

std::vector<GenerateRequest> collect_requests(const PromptOptions& prompts,
                                              const RequestReader& reader,
                                              const RequestOptions& options,
                                              const fs::path& model_folder) {
  const bool has_table = is_table(prompts.requests);
  const TextFormat format = prompts.format.finish();
  ReadingReport report;
  if (!prompts.template_text.empty() && prompts.keywords.empty() && !has_table) {
    throw Error(Fault::usage, "--template has nothing to fill it",
                {"it makes prompts of --keywords, or of the rows of --requests FILE.csv"},
                "--keywords \"rain, roof\"");
  }
  if (prompts.split.asked() && !has_table) {
    throw Error(Fault::usage, "--split takes of --requests FILE.csv the rows of a run's part", {},
                "--requests FILE.csv, a table that the run read");
  }
  if (!prompts.requests.empty()) {
    if (!prompts.prompts.empty() || !prompts.positional_prompts.empty() ||
        !prompts.prompt_files.empty() || !prompts.prompt_ids.empty() || !prompts.keywords.empty()) {
      throw Error(Fault::usage, "--requests brings its own prompts",
                  {"leave out --prompt, --prompt-file, --prompt-ids and --keywords"});
    }
    if (!has_table) {
      if (format.delimiter != 0 || !format.header) {
        throw Error(Fault::usage, "--delimiter and --no-header are for tables",
                    {"requests in JSON lines have neither"}, "--requests FILE.csv");
      }
      std::vector<GenerateRequest> requests =
          reader.from_jsonl(prompts.requests, format.encoding, options, report);
      tell(report);
      if (prompts.limit > 0 && std::ssize(requests) > prompts.limit) {
        requests.erase(requests.begin() + prompts.limit, requests.end());
      }
      return requests;
    }
    std::optional<std::set<std::size_t>> lines;
    if (prompts.split.asked()) {
      lines = prompts.split.read(model_folder.string(), {}).lines_of(prompts.requests);
    }
    std::vector<GenerateRequest> requests =
        requests_of_table(prompts, find_template(prompts, model_folder), reader, options,
                          lines ? &*lines : nullptr, report);
    tell(report);
    return requests;
  }
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
    const std::string bytes = input_or_answer();
    add_file("standard input", bytes, format, prompts.line_by_line, report, texts);
  }
  tell(report);
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

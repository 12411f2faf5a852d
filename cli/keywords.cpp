// quire keywords: YAKE's keywords for every row of a table.
//
// The rows go out as they came in, byte for byte (in UTF-8 where --encoding names another one),
// with one more column: the keywords, best first.
// With
// --json every row is an object with its columns, the keywords as a list, and their scores.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <iostream>
#include <iterator>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/parallel.h"
#include "base/text.h"
#include "cli/command.h"
#include "cli/corpus_flags.h"
#include "cli/flags.h"
#include "cli/option_names.h"
#include "cli/output_file.h"
#include "cli/signals.h"
#include "cli/terminal.h"
#include "corpus/csv.h"
#include "corpus/file_kind.h"
#include "corpus/keywords.h"
#include "corpus/records.h"

namespace quire {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

constexpr const char* kScores = "scores";  // beside the keywords in JSON

struct KeywordsCommand {
  std::vector<std::string> inputs, named;  // named by --data
  std::string text_column;
  TextFormatFlags format;
  OutputFile output;
  std::string output_column = "keywords";
  fs::path stop_words;
  KeywordOptions options;
  int threads = 0;
  bool json = false;
};

void add_flags(Flags& flags, KeywordsCommand& c) {
  flags.positional("IN.csv", c.inputs);
  flags.group("Input");
  flags.add(kDataNames, c.named, "IN.csv", "the same as IN.csv");
  flags.add("text-column", c.text_column, "NAME",
            "the column with the texts; without it 'text', or the only one");
  c.format.add_to(flags);
  flags.add("stopwords", c.stop_words, "FILE",
            "a list of stop words, one a line, instead of the English one that is built in");
  flags.group("Keywords");
  flags.add("top", c.options.top, "K", "keywords a row at most", at_least(1));
  flags.add("ngram", c.options.ngram, "N", "words a keyword at most", between(1, 100));
  flags.add(
      "dedup", c.options.dedup, "S",
      "leave out a keyword that is more similar than this to a better one; 1 keeps all, in lower "
      "case",
      between(0, 1));
  flags.add("window", c.options.window, "N", "words before a word that count as its neighbours",
            between(1, 1000));
  flags.group("Output");
  c.output.add_to(flags, "OUT.csv");
  flags.add("output-column", c.output_column, "NAME", "what the new column is called");
  flags.add("json", c.json,
            "a JSON object a line: the columns, the keywords as a list, and their scores (lower is "
            "better)");
  flags.add("threads", c.threads, "N", "0 is one per core; the result is the same",
            between(0, 1024));
  flags.add_quiet();
  flags.example("quire keywords samples/quotes.csv --text-column quote -o keywords.csv");
  flags.example("quire keywords samples/quotes.csv --text-column quote --top 3 --ngram 1 --json");
}

std::unique_ptr<CsvReader> open_table(const std::string& name, const TextFormat& format,
                                      ReadingReport& report) {
  if (name == "-") {
    return std::make_unique<CsvReader>("standard input",
                                       std::string(std::istreambuf_iterator<char>(std::cin), {}),
                                       format, &report);
  }
  const std::vector<fs::path> files = find_files({name});  // knows near names
  if (files.size() != 1 || kind_of(files[0]) != FileKind::table) {
    throw Error(Fault::usage, name + " is not one table", {"keywords reads a .csv or a .tsv"},
                "quire keywords --help");
  }
  return std::make_unique<CsvReader>(files[0], format, &report);
}

std::size_t find_text(CsvReader& table, const std::string& name) {
  if (name.empty() && table.columns().size() == 1) return 0;
  return table.column(name.empty() ? "text" : name, "quire keywords");
}

void check_new_column(const CsvReader& table, const KeywordsCommand& c) {
  const auto taken = [&](const std::string& name) {
    return std::find(table.columns().begin(), table.columns().end(), name) != table.columns().end();
  };
  if (taken(c.output_column)) {
    throw Error(Fault::usage,
                table.path().string() + " has a column '" + c.output_column + "' already", {},
                "--output-column NAME, with another name for the new one");
  }
  if (c.json && (taken(kScores) || c.output_column == kScores)) {
    throw Error(Fault::usage,
                fmt::format("with --json '{}' is the name of the keywords' scores", kScores),
                {"the table, or --output-column, has it too"}, "without --json");
  }
}

void check_output_name(const CsvReader& table, const KeywordsCommand& c) {
  if (c.output.is_stdout()) return;
  const bool tabs = lower_extension(c.output.path()) == ".tsv";
  if (!c.json && tabs != (table.delimiter() == '\t')) {
    throw Error(Fault::usage,
                fmt::format("{} is written with {} between its fields, as the input is",
                            c.output.path().string(),
                            table.delimiter() == '\t'  ? "tabs"
                            : table.delimiter() == ',' ? "commas"
                                                       : delimiter_name(table.delimiter())),
                {"its name would say otherwise"}, tabs ? "-o FILE.csv" : "-o FILE.tsv");
  }
}

struct Row {
  std::vector<std::string> fields;
  std::string_view as_written;  // the reader's memory
  std::vector<Keyword> keywords;
};

std::string csv_row(std::string_view as_written, std::string_view added, char delimiter,
                    std::string_view line_end) {
  return std::string(as_written) + delimiter + csv_field(added, delimiter) + std::string(line_end);
}

std::string joined(const std::vector<Keyword>& keywords) {
  std::string text;
  for (const Keyword& keyword : keywords) text += (text.empty() ? "" : ", ") + keyword.text;
  return text;
}

std::string json_row(const Row& row, const CsvReader& table, const KeywordsCommand& c) {
  nlohmann::ordered_json object;
  for (std::size_t i = 0; i < row.fields.size(); ++i) {
    object[replace_invalid_utf8(table.columns()[i])] = replace_invalid_utf8(row.fields[i]);
  }
  auto keywords = nlohmann::ordered_json::array(), scores = keywords;
  for (const Keyword& keyword : row.keywords) {
    keywords.push_back(keyword.text);
    scores.push_back(keyword.score);
  }
  object[c.output_column] = std::move(keywords);
  object[kScores] = std::move(scores);
  return json_text(object) + "\n";
}

int run(const std::vector<std::string>& arguments) {
  KeywordsCommand command;
  Flags flags(
      "keywords", "IN.csv --text-column NAME [OPTION...]",
      "Finds keywords by YAKE: writes the table with one more column, the best keyword first.");
  add_flags(flags, command);
  if (!flags.parse(arguments)) return 0;
  command.inputs.insert(command.inputs.end(), command.named.begin(), command.named.end());
  if (command.inputs.size() != 1) {
    throw Error(Fault::usage,
                command.inputs.empty() ? "there is no table to read" : "one table at a time",
                {"- is standard input"}, flags.help_command());
  }

  const auto start = Clock::now();
  const StopWords stop_words =
      command.stop_words.empty() ? StopWords::english() : StopWords::from_file(command.stop_words);
  ReadingReport report;
  const std::unique_ptr<CsvReader> table =
      open_table(command.inputs[0], command.format.finish(), report);
  const std::size_t text = find_text(*table, command.text_column);
  check_new_column(*table, command);
  check_output_name(*table, command);

  const InterruptGuard interrupts("finishing these rows");
  OutputFile& output = command.output;
  output.open();
  const char delimiter = table->delimiter();
  const std::string line_end(table->line_end());
  if (!command.json) {
    output.write((table->has_byte_order_mark() ? "\xEF\xBB\xBF" : "") +
                 std::string(table->separator_line()));
    if (table->has_header()) {
      output.write(csv_row(table->row_text(), command.output_column, delimiter, line_end));
    }
  }
  constexpr std::size_t kBlock = 4096;  // rows in memory at once
  std::vector<Row> rows(kBlock);
  std::vector<std::string> lines(kBlock);
  std::size_t all_rows = 0, all_keywords = 0;
  for (std::size_t count = kBlock; count == kBlock && !interrupted();) {
    for (count = 0; count < kBlock && table->next(rows[count].fields); ++count) {
      rows[count].as_written = table->row_text();
      report.look(table->path(), table->line(), rows[count].fields[text]);
    }
    parallel_for(command.threads, count, [&](std::size_t i) {
      rows[i].keywords = extract_keywords(rows[i].fields[text], command.options, stop_words);
      lines[i] = command.json
                     ? json_row(rows[i], *table, command)
                     : csv_row(rows[i].as_written, joined(rows[i].keywords), delimiter, line_end);
    });
    std::string block;
    for (std::size_t i = 0; i < count; ++i) {
      block += lines[i];
      all_keywords += rows[i].keywords.size();
    }
    output.write(block);
    all_rows += count;
  }
  if (interrupted()) {
    note(fmt::format("stopped after {}{}", counted(all_rows, "row"),
                     output.is_stdout() ? "" : ": nothing is written"));
    return interrupt_exit_code();
  }
  output.commit();

  tell(report);
  const std::chrono::duration<double> seconds = Clock::now() - start;
  note(fmt::format("{} for {} in {}{}", counted(all_keywords, "keyword"), counted(all_rows, "row"),
                   human_duration(seconds.count()),
                   output.is_stdout() ? "" : ": " + output.path().string()));
  return 0;
}

}  // namespace

const Command kKeywordsCommand = {"keywords", "keywords of every row of a table, by YAKE", run};

}  // namespace quire

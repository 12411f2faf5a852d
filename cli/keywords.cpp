// quire keywords: YAKE's keywords for every row of a table (pipeline/keyword_table.h).
#include <fmt/format.h>

#include <memory>

#include "base/error.h"
#include "base/file.h"
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
#include "corpus/records.h"
#include "pipeline/keyword_table.h"
#include "pipeline/requests.h"

namespace quire {
namespace {

namespace fs = std::filesystem;

struct KeywordsCommand {
  std::vector<std::string> inputs;
  TextFormatFlags format;
  OutputFile output;
  fs::path stop_words;
  KeywordTableOptions options;
};

void add_flags(Flags& flags, KeywordsCommand& c) {
  flags.positional("IN.csv", c.inputs);
  flags.group("Input");
  flags.add(kDataNames, c.inputs, "IN.csv", "the same as IN.csv");
  flags.add("text-column", c.options.text_column, "NAME",
            "the column with the texts; without it 'text', or the only one");
  c.format.add_to(flags);
  flags.add("stopwords", c.stop_words, "FILE",
            "a list of stop words, one a line, instead of the English one that is built in");
  flags.group("Keywords");
  flags.add("top", c.options.keywords.top, "K", "keywords a row at most", at_least(1));
  flags.add("ngram", c.options.keywords.ngram, "N", "words a keyword at most", between(1, 100));
  flags.add(
      "dedup", c.options.keywords.dedup, "S",
      "leave out a keyword that is more similar than this to a better one; 1 keeps all, in lower "
      "case",
      between(0, 1));
  flags.add("window", c.options.keywords.window, "N",
            "words before a word that count as its neighbours", between(1, 1000));
  flags.group("Output");
  c.output.add_to(flags, "OUT.csv");
  flags.add("output-column", c.options.output_column, "NAME", "what the new column is called");
  flags.add("json", c.options.json,
            "a JSON object a line: the columns, the keywords as a list, and their scores (lower is "
            "better)");
  flags.add("threads", c.options.threads, "N", "0 is one per core; the result is the same",
            between(0, 1024));
  flags.add_quiet();
  flags.example("quire keywords samples/quotes.csv --text-column quote -o keywords.csv");
  flags.example("quire keywords samples/quotes.csv --text-column quote --top 3 --ngram 1 --json");
}

std::unique_ptr<CsvReader> open_table(const std::string& name, const TextFormat& format,
                                      ReadingReport& report) {
  if (name == "-") {
    return std::make_unique<CsvReader>("standard input", read_standard_input(), format, &report);
  }
  const std::vector<fs::path> files = find_files({name});  // knows near names
  if (files.size() != 1 || kind_of(files[0]) != FileKind::table) {
    throw Error(Fault::usage, name + " is not one table", {"keywords reads a .csv or a .tsv"},
                "quire keywords --help");
  }
  return std::make_unique<CsvReader>(files[0], format, &report);
}

void check_output_name(const CsvReader& table, const KeywordsCommand& c) {
  if (c.output.is_stdout()) return;
  const bool tabs = lower_extension(c.output.path()) == ".tsv";
  if (!c.options.json && tabs != (table.delimiter() == '\t')) {
    throw Error(Fault::usage,
                fmt::format("{} is written with {} between its fields, as the input is",
                            c.output.path().string(),
                            table.delimiter() == '\t'  ? "tabs"
                            : table.delimiter() == ',' ? "commas"
                                                       : delimiter_name(table.delimiter())),
                {"its name would say otherwise"}, tabs ? "-o FILE.csv" : "-o FILE.tsv");
  }
}

int run_keywords(const std::vector<std::string>& arguments) {
  KeywordsCommand command;
  Flags flags(
      "keywords", "IN.csv --text-column NAME [OPTION...]",
      "Finds keywords by YAKE: writes the table with one more column, the best keyword first.");
  add_flags(flags, command);
  if (!flags.parse(arguments)) return 0;
  if (command.inputs.size() != 1) {
    flags.refuse(command.inputs.empty() ? "there is no table to read" : "one table at a time",
                 {"- is standard input"});
  }

  const Stopwatch watch;
  const StopWords stop_words =
      command.stop_words.empty() ? StopWords::english() : StopWords::from_file(command.stop_words);
  ReadingReport report;
  const std::unique_ptr<CsvReader> table =
      open_table(command.inputs[0], command.format.finish(), report);
  const std::size_t text = find_text_column(*table, command.options);
  check_output_name(*table, command);

  const InterruptGuard interrupts("finishing these rows");
  OutputFile& output = command.output;
  output.open();
  const KeywordCounts counts = add_keywords(
      *table, text, stop_words, command.options, report,
      {.write = [&](std::string_view rows) { output.write(rows); }, .stop_requested = interrupted});
  if (counts.stopped) {
    note(fmt::format("stopped after {}{}", counted(counts.rows, "row"),
                     output.is_stdout() ? "" : ": nothing is written"));
    return interrupt_exit_code();
  }
  output.commit();

  tell(report);
  note(fmt::format("{} for {} in {}{}", counted(counts.keywords, "keyword"),
                   counted(counts.rows, "row"), human_duration(watch.seconds()),
                   output.is_stdout() ? "" : ": " + output.path().string()));
  return 0;
}

}  // namespace

const Command kKeywordsCommand = {"keywords", "keywords of every row of a table, by YAKE",
                                  run_keywords};

}  // namespace quire

// quire data inspect: what a data set holds, what is wrong with it, and what an epoch of it takes.
#include "pipeline/inspect_data.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <string_view>

#include "base/error.h"
#include "base/json.h"
#include "base/text.h"
#include "cli/command.h"
#include "cli/corpus_flags.h"
#include "cli/help_text.h"
#include "cli/option_names.h"
#include "cli/terminal.h"
#include "cli/train_flags.h"
#include "pipeline/get_model.h"
#include "pipeline/model_tokenizer.h"

namespace quire {
namespace {

using Json = nlohmann::ordered_json;

struct InspectCommand : InspectOptions {
  CorpusFlags corpus_flags;
  std::string tokenizer;
  bool json = false;
};

void add_flags(Flags& flags, InspectCommand& c) {
  c.corpus_flags.add_paths(flags, c.corpus);
  c.corpus_flags.add_to(flags, c.corpus);
  flags.add(kVocabularyNames, c.tokenizer, "DIR",
            "counts tokens with it; without one lengths are in words");
  flags.group("An epoch");
  flags.add(kBlockNames, c.training.block_size, "T", "tokens a row", at_least(1));
  add_packing(flags, c.training.packing, "how quire train makes rows of records");
  add_overflow(flags, c.training.overflow);
  flags.add(kBatchNames, c.training.per_device_train_batch_size, "B", "rows at a time",
            at_least(1));
  flags.add("gradient-accumulation-steps", c.training.gradient_accumulation_steps, "N",
            "batches that make one update", at_least(1));
  flags.add("validation-split", c.validation_split, "SHARE", "of the records, held out; 0 is none",
            between(0, 0.9));
  add_validation_file(flags, c.validation,
                      "what quire train shall validate on instead of that share: how many records, "
                      "and which of them stand in the data, too");
  flags.group("Output");
  flags.add("threads", c.threads, "N", "0 is one per core; the result is the same",
            between(0, 1024));
  flags.add("json", c.json, "one JSON object on stdout");
  flags.add_quiet();
  flags.example("quire data inspect samples/quotes.csv");
  flags.example(
      "quire data inspect samples/quotes.csv --template \"{mood}: {quote}\" --tokenizer " +
      std::string(kBundledModel) + " --packing none");
  flags.example(where_models_come_from());
}

/// One line, quoted, of at most so many columns.
std::string quoted(std::string_view text, int columns) {
  std::string line;
  for (const char c : text) {
    if (c == '\n') {
      line += "\\n";
    } else {
      line += c == '\t' || c == '\r' ? ' ' : c;
    }
  }
  return "\"" + cut_to_width(line, columns) + "\"";
}

void print_columns(const ColumnsSummary& columns) {
  std::vector<std::vector<std::string>> table{{"column", "filled", "bytes a row", "example"}};
  int widest_name = 0;
  for (const ColumnSummary& column : columns.columns) {
    widest_name = std::max(widest_name, display_width(column.name));
  }
  // Beside the name, with two spaces before each and its quotes.
  const int example_columns = std::clamp(output_columns() - widest_name - 6, 8, 48);
  for (const ColumnSummary& column : columns.columns) {
    const double rows = static_cast<double>(std::max<std::int64_t>(columns.rows, 1));
    table.push_back({column.name,
                     fmt::format("{:.1f}%", 100 * static_cast<double>(column.filled) / rows),
                     fixed_number(static_cast<double>(column.bytes) / rows, 1),
                     column.filled > 0 ? quoted(column.example, example_columns) : ""});
  }
  print(fmt::format("\n{} in {}\n", bold("Columns"), counted(columns.rows, "row")) +
        format_table(table, output_columns()));
}

void print_lengths(const Inspected& inspected) {
  const RecordsSummary& records = inspected.records;
  const Lengths l = lengths_of(records.lengths);
  std::string text = fmt::format(
      "\n{} in {} a record: {} to {}, median {}, mean {}; 95% have at most {}\n", bold("Lengths"),
      inspected.in_tokens ? "tokens" : "words", with_commas(l.least), with_commas(l.most),
      with_commas(l.median),
      fixed_number(static_cast<double>(l.sum) / static_cast<double>(records.records), 1),
      with_commas(l.most_of_95));
  const std::vector<Bar> bars = histogram(records.lengths);
  std::int64_t highest = 1;
  // 41 columns stand before the bars.
  const std::int64_t width = std::clamp(output_columns() - 41, 8, 40);
  for (const Bar& bar : bars) highest = std::max(highest, bar.records);
  for (const Bar& bar : bars) {
    const std::int64_t blocks = (bar.records * width + highest - 1) / highest;
    text += fmt::format("  {:>11} – {:<11} {:>11}  {:█<{}}\n", with_commas(bar.low),
                        with_commas(bar.high), with_commas(bar.records), "", blocks);
  }
  print_lines(text);
}

void print_findings(const Inspected& inspected) {
  const RecordsSummary& records = inspected.records;
  std::string text = "\n" + bold("Trouble") + "\n";
  bool any = false;
  for (const NamedFinding& named : findings_of(records)) {
    const Finding& finding = named.finding;
    if (finding.records == 0) continue;
    any = true;
    text += fmt::format("  {}: {}\n    first {} line {}{}\n", named.what,
                        counted(finding.records, "record"), finding.file.string(), finding.line,
                        finding.excerpt.empty() ? "" : ": " + quoted(finding.excerpt, 60));
    if (&finding == &records.invalid_utf8 && inspected.texts.not_utf8.lines > 0) {
      text += "    " + likely_encoding(inspected.texts) + "\n";
    }
    if (*named.step != '\0') text += fmt::format("    --clean {}\n", named.step);
  }
  print_lines(any ? text : text + "  none was found\n");
}

void print_samples(const std::vector<RecordsSummary::Sample>& samples) {
  if (samples.empty()) return;
  std::string text = "\n" + bold("Samples") + ", as the model sees them\n";
  for (const RecordsSummary::Sample& sample : samples) {
    text += fmt::format("  record {}\n", with_commas(sample.record));
    constexpr int kLines = 8;
    std::string_view rest = sample.text;
    for (int line = 0; line < kLines && !rest.empty(); ++line) {
      const std::string cut = cut_to_width(take_until('\n', rest), 200);
      text += (display_width(cut) + 4 > output_columns() ? flow(cut, output_columns(), "  │ ")
                                                         : "  │ " + cut) +
              "\n";
    }
    if (!rest.empty()) text += "  │ …\n";
  }
  print(text);
}

void print_for_people(const InspectCommand& c, const Inspected& inspected) {
  std::string kinds;
  for (const auto& [extension, count] : inspected.kinds) {
    kinds += fmt::format("{}{} × {}", kinds.empty() ? "" : ", ", with_commas(count), extension);
  }
  print_lines(fmt::format("{}    {}, {}\n", bold("Files"), kinds,
                          human_bytes(static_cast<double>(inspected.file_bytes))));
  const RecordsSummary& records = inspected.records;
  if (inspected.read) {
    const std::int64_t tokens = lengths_of(records.lengths).sum;
    std::string line = fmt::format("{}  {}", bold("Records"), with_commas(records.records));
    if (records.bytes > 0) {
      line += fmt::format(": {}, {}, {}", human_bytes(static_cast<double>(records.bytes)),
                          counted(records.characters, "character"), counted(records.words, "word"));
    }
    if (inspected.in_tokens) line += ", " + counted(tokens, "token");
    print_lines(line + "\n");
  }
  if (!inspected.columns.columns.empty()) print_columns(inspected.columns);
  if (!inspected.read) {
    print_lines("\n");
    note(
        "which column holds the text? Records, lengths and samples follow from it\n"
        "  try: the same command with --text-column NAME, or --template " +
        in_quotes("{" + inspected.columns.columns[0].name + "} ...", '"'));
    return;
  }
  print_lengths(inspected);
  if (records.bytes > 0) print_findings(inspected);
  note_cleaning(records.cleaned);
  if (inspected.epoch) {
    const Inspected::Epoch& e = *inspected.epoch;
    print_lines(fmt::format(
        "\n{} with --packing {} and --block-size {}: {} in {} of {} × {}; {} held out\n",
        bold("An epoch"), name_of(c.training.packing), c.training.block_size,
        counted(e.rows, "row"), counted(e.steps, "step"), c.training.gradient_accumulation_steps,
        c.training.per_device_train_batch_size, counted(e.held_out_records, "record")));
    if (e.left_out > 0) {
      print_lines(fmt::format("  {} without a target are left out\n", counted(e.left_out, "row")));
    }
    if (!e.unused.empty()) print_lines("  " + e.unused + "; --overflow split uses them\n");
  } else {
    print_lines("\n" + bold("An epoch") + ": --tokenizer DIR tells its rows and steps\n");
  }
  if (inspected.validation) {
    print_lines(fmt::format("\n{} {}, of which {} in the data, too\n", bold("Validation file"),
                            counted(inspected.validation->records, "record"),
                            inspected.validation->learnt == 1
                                ? "1 stands"
                                : with_commas(inspected.validation->learnt) + " stand"));
  }
  print_samples(records.samples);
}

/// Files that are passed over in folders: extension -> files.
Json skipped_of(const ReadingReport& report) {
  std::map<std::string, std::int64_t> kinds;
  for (const ReadingReport::Skipped& folder : report.skipped) {
    for (const auto& [extension, files] : folder.kinds) kinds[extension] += files;
  }
  return kinds;
}

Json to_json(const InspectCommand& c, const Inspected& inspected) {
  Json json = {{"files", inspected.files},
               {"file_bytes", inspected.file_bytes},
               {"kinds", inspected.kinds},
               {"rows", inspected.columns.rows},
               {"blank_rows", inspected.tables.blank_rows.lines},
               {"skipped", skipped_of(inspected.tables)},
               {"columns", Json::array()}};
  for (const ColumnSummary& column : inspected.columns.columns) {
    json["columns"].push_back({{"name", column.name},
                               {"filled", column.filled},
                               {"bytes", column.bytes},
                               {"example", column.example}});
  }
  if (!inspected.read) return json;
  const RecordsSummary& records = inspected.records;
  const Lengths lengths = lengths_of(records.lengths);
  json["records"] = records.records;
  json["bytes"] = records.bytes;
  json["characters"] = records.characters;
  json["words"] = records.words;
  if (inspected.in_tokens) json["tokens"] = lengths.sum;
  json["lengths"] = {{"unit", inspected.in_tokens ? "tokens" : "words"},
                     {"least", lengths.least},
                     {"median", lengths.median},
                     {"percentile_95", lengths.most_of_95},
                     {"most", lengths.most},
                     {"histogram", Json::array()}};
  for (const Bar& bar : histogram(records.lengths)) {
    json["lengths"]["histogram"].push_back(
        {{"low", bar.low}, {"high", bar.high}, {"records", bar.records}});
  }
  for (const NamedFinding& named : findings_of(records)) {
    Json& finding = json["trouble"][named.key] = {{"records", named.finding.records}};
    if (named.finding.records == 0) continue;
    finding["file"] = named.finding.file.string();
    finding["line"] = named.finding.line;
    finding["excerpt"] = named.finding.excerpt;
    if (&named.finding == &records.invalid_utf8 && inspected.texts.not_utf8.lines > 0) {
      finding["likely_encoding"] = inspected.texts.guess.likely();
    }
  }
  json["cleaning"] = to_json(records.cleaned);
  if (inspected.epoch) {
    json["epoch"] = {{"packing", name_of(c.training.packing)},
                     {"block_size", c.training.block_size},
                     {"rows", inspected.epoch->rows},
                     {"steps", inspected.epoch->steps},
                     {"rows_left_out", inspected.epoch->left_out},
                     {"records_cut", inspected.epoch->cut_records},
                     {"tokens_unused", inspected.epoch->unused_tokens},
                     {"records_held_out", inspected.epoch->held_out_records}};
  }
  if (inspected.validation) {
    json["validation"] = {{"records", inspected.validation->records},
                          {"also_in_data", inspected.validation->learnt}};
  }
  json["samples"] = Json::array();
  for (const RecordsSummary::Sample& sample : records.samples) {
    json["samples"].push_back({{"record", sample.record}, {"text", sample.text}});
  }
  return json;
}

}  // namespace

int run_data_inspect(const std::vector<std::string>& arguments) {
  InspectCommand c;
  c.training.block_size = 1024;
  c.training.num_train_epochs = 1;
  Flags flags("data inspect", "PATH... [OPTION...]",
              "Shows what a data set holds and what is wrong with it.");
  add_flags(flags, c);
  if (!flags.parse(arguments)) return 0;
  c.corpus_flags.finish(c.corpus);
  if (c.corpus.paths.empty()) flags.refuse("no data is named: what shall be looked into?");
  std::optional<Tokenizer> tokenizer;
  if (!c.tokenizer.empty()) tokenizer = named_tokenizer(c.tokenizer);
  Inspected inspected = inspect_data(c, tokenizer, note_left_out);
  inspected.tables.surrogates = inspected.texts.surrogates;
  if (inspected.read) inspected.tables.not_utf8 = {};  // stands under Trouble
  tell(inspected.tables);
  if (c.json) {
    print(json_text(to_json(c, inspected)) + "\n");
  } else {
    print_for_people(c, inspected);
  }
  return 0;
}

}  // namespace quire

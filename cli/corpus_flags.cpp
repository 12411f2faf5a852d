#include "cli/corpus_flags.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/text.h"
#include "cli/option_names.h"
#include "cli/terminal.h"
#include "corpus/csv.h"

namespace quire {

void add_encoding(Flags& flags, std::string& encoding) {
  flags.add("encoding", encoding, "NAME",
            "of the files: utf-8, cp1252, latin-1, utf-16le, shift_jis, ... (any that ICU knows)");
}

void TextFormatFlags::add_to(Flags& flags) {
  add_encoding(flags, encoding_);
  flags.add("delimiter", delimiter_, "C",
            "between the fields of a table: one character or tab; without it found out");
  flags.add("no-header", no_header_,
            "the first row of a table is data; its columns are called 1, 2, ...");
}

TextFormat TextFormatFlags::finish() const {
  check_encoding(encoding_);
  TextFormat format{.encoding = encoding_, .header = !no_header_};
  if (delimiter_ == "tab" || delimiter_ == "\\t") {
    format.delimiter = '\t';
  } else if (delimiter_.size() == 1 && delimiter_.find_first_of("\"\r\n") != 0) {
    format.delimiter = delimiter_[0];
  } else if (!delimiter_.empty()) {
    throw Error(Fault::usage, "--delimiter '" + delimiter_ + "' cannot stand between fields",
                {"it is one character of ASCII, neither a quote nor a line end"},
                "--delimiter ';', or --delimiter tab");
  }
  return format;
}

void CorpusFlags::add_paths(Flags& flags, CorpusOptions& corpus) {
  flags.positional("PATH", corpus.paths);
  flags.group("Data");
  flags.add(kDataNames, corpus.paths, "PATH...", "the same as PATH", ListStyle::several);
}

void CorpusFlags::add_to(Flags& flags, CorpusOptions& corpus) {
  flags.add("text-column", corpus.text_column, "NAME", "column of a CSV, field of a JSONL");
  flags.add("template", corpus.template_text, "TEXT",
            "a record from several columns: \"{name} => {emoji}\"");
  format_.add_to(flags);
  flags.add("line-by-line", corpus.line_by_line, "every line of a .txt is a record");
  flags.add("document-separator", corpus.document_separator, "TEXT",
            "a line of a .txt that is this text divides records: '<|endoftext|>', '***'");
  flags.add_choice(
      "loss-on", corpus.loss_on_completion, {{"all", false}, {"completion", true}},
      "completion: learn what the template's last column holds, not what is before it");
  flags.add("clean", clean_, "STEPS",
            "nfc, control, repair-mojibake, long-lines, duplicates: those named are made, in this "
            "order, and counted");
  flags.add("max-line-length", corpus.cleaning.max_line_length, "N",
            "characters a line may have for --clean long-lines", at_least(1));
}

void CorpusFlags::finish(CorpusOptions& corpus) const {
  if (corpus.command.empty()) corpus.command = "quire train --model DIR --data";
  corpus.format = format_.finish();
  corpus.cleaning.steps = cleaning_steps(clean_);
}

void note_cleaning(const std::vector<StepCount>& counts) {
  for (const StepCount& count : counts) {
    note(fmt::format("  {:<16}{} changed, {} dropped", name_of(count.step),
                     counted(count.changed, "record"), with_commas(count.dropped)));
  }
}

nlohmann::ordered_json to_json(const std::vector<StepCount>& counts) {
  auto list = nlohmann::ordered_json::array();
  for (const StepCount& count : counts) {
    list.push_back(
        {{"step", name_of(count.step)}, {"changed", count.changed}, {"dropped", count.dropped}});
  }
  return list;
}

void add_validation_file(Flags& flags, std::vector<std::string>& paths, const std::string& help) {
  flags.add(kValidationNames, paths, "PATH...", help, ListStyle::several);
}

void note_left_out(std::size_t files) {
  note(fmt::format("{} of --data {} not learnt from: --validation-file names {}",
                   counted(files, "file"), files == 1 ? "is" : "are", files == 1 ? "it" : "them"));
}

DataCallbacks data_callbacks(bool tell_cleaning) {
  DataCallbacks callbacks{.on_read = tell, .on_left_out = note_left_out};
  if (tell_cleaning) callbacks.on_cleaned = note_cleaning;
  return callbacks;
}

namespace {

/// "3 lines have WHAT, the first in FILE line 2: REST".
std::string said(const LineCount& count, std::string_view has, std::string_view have,
                 std::string_view rest) {
  return fmt::format("{} {}, {}{} line {}{}", counted(count.lines, "line"),
                     count.lines == 1 ? has : have, count.lines == 1 ? "in " : "the first in ",
                     count.file.string(), count.line, rest);
}

/// " (and 2 more files)", or nothing.
std::string and_more(std::size_t files) {
  return files > 1 ? " (and " + counted(files - 1, "more file") + ")" : "";
}

}  // namespace

std::string likely_encoding(const ReadingReport& report) {
  const std::string likely = report.guess.likely();
  if (likely.empty()) {
    return "in none of Western Europe's encodings\n  try: --encoding NAME, such as cp1251, koi8-r, "
           "shift_jis or gb18030";
  }
  if (report.utf8_too) {
    return fmt::format(
        "likely {}, among lines in UTF-8, which --encoding {} would spoil: mend the "
        "file",
        likely, likely);
  }
  return fmt::format("likely {}\n  try: --encoding {}", likely, likely);
}

void tell(const ReadingReport& report) {
  for (const ReadingReport::Skipped& folder : report.skipped) {
    std::string kinds;
    for (const auto& [extension, files] : folder.kinds) {
      kinds += fmt::format("{}{} × {}", kinds.empty() ? "" : ", ", with_commas(files),
                           extension.empty() ? "no extension" : extension);
    }
    note(fmt::format(
        "{}: only its {} are read; passed over: {}{}", folder.folder.string(),
        folder.texts_alone ? ".txt" : "tables and JSON lines", kinds,
        folder.pattern.empty() ? "" : " (for these --data " + in_quotes(folder.pattern) + ")"));
  }
  if (!report.delimiters.empty()) {
    const ReadingReport::Table& first = report.delimiters[0];
    note(fmt::format("{}{}: the fields are separated by '{}'; --delimiter says otherwise",
                     first.file.string(), and_more(report.delimiters.size()),
                     delimiter_name(first.delimiter)));
  }
  if (!report.headers.empty()) {
    const ReadingReport::Header& first = report.headers[0];
    warn(
        fmt::format("{}{}: the first row is taken for the names of the columns and not learnt, "
                    "but looks like data: {}\n  try: --no-header, if it is data",
                    first.file.string(), and_more(report.headers.size()),
                    cut_to_width(replace_invalid_utf8(first.row), 60)));
  }
  if (report.blank_rows.lines > 0) {
    note(said(report.blank_rows, "is blank and passed over", "are blank and passed over", ""));
  }
  if (report.not_utf8.lines > 0) {
    warn(said(report.not_utf8, "has bytes that are not UTF-8", "have bytes that are not UTF-8",
              ": these are read as U+FFFD; ") +
         likely_encoding(report));
  }
  if (report.surrogates.lines > 0) {
    warn(said(report.surrogates, "has half a surrogate pair", "have half a surrogate pair",
              ": it is read as U+FFFD"));
  }
}

}  // namespace quire

#include "corpus/samples.h"

#include <algorithm>

#include "base/error.h"
#include "base/text.h"
#include "corpus/csv.h"
#include "corpus/encoding.h"
#include "corpus/file_kind.h"
#include "corpus/input_file.h"
#include "corpus/json_line.h"
#include "corpus/records.h"

namespace quire {
namespace {

namespace fs = std::filesystem;

constexpr const char* kTextOption = "text_column";
constexpr const char* kKeywordsOption = "keywords_column";
constexpr const char* kDefaultColumn = "text";
constexpr std::string_view kSeparator = "---";

void read_text(const fs::path& path, const SampleOptions& options, std::vector<Sample>& samples) {
  if (!options.keywords_column.empty()) {
    throw Error(Fault::usage, path.string() + " has no columns, so it has no keywords",
                {"`keywords_column` is for .csv, .tsv and .jsonl"_named});
  }
  const InputFile file(path, options.format);
  std::string_view text = without_byte_order_mark(file.text(), path);
  std::string converted;
  if (text.find('\r') != std::string_view::npos) text = converted = with_newlines(text);
  if (options.report != nullptr) options.report->look(path, 1, text);
  bool open = false;  // a text has begun
  while (!text.empty()) {
    const std::string_view line = take_until('\n', text);
    if (options.line_by_line) {
      if (line.find_first_not_of(" \t") == std::string_view::npos) continue;
      samples.push_back({.text = std::string(line), .keywords = {}});
    } else if (line == kSeparator) {
      if (!open) samples.emplace_back();
      open = false;
    } else if (open) {
      samples.back().text.append("\n").append(line);
    } else {
      samples.push_back({.text = std::string(line), .keywords = {}});
      open = true;
    }
  }
}

void read_table(const fs::path& path, const SampleOptions& options, std::vector<Sample>& samples) {
  CsvReader csv(path, options.format, options.report);
  const std::size_t text = csv.text_column(options.text_column, options.command, kTextOption);
  const bool has_keywords = !options.keywords_column.empty();
  const std::size_t keywords =
      has_keywords ? csv.column(options.keywords_column, options.command, kKeywordsOption) : 0;
  std::vector<std::string> fields;
  while (csv.next(fields)) {
    if (options.report != nullptr) options.report->look(path, csv.line(), fields[text]);
    samples.push_back({.text = fields[text], .keywords = {}});
    if (has_keywords) samples.back().keywords = split_at_commas(fields[keywords]);
  }
}

void read_json_lines(const fs::path& path, const SampleOptions& options,
                     std::vector<Sample>& samples) {
  const std::string column = options.text_column.empty() ? kDefaultColumn : options.text_column;
  const auto take = [&](const JsonLine& line) {
    if (line.is_null(column)) {
      line.fail("'" + column + "' is null", {"the model that wrote it had no tokenizer"},
                "quire generate `json` with `tokenizer` DIR"_named);
    }
    Sample& sample = samples.emplace_back();
    sample.text = line.text(column, options.command, kTextOption);
    if (options.keywords_column.empty()) return;
    sample.keywords = line.list(options.keywords_column, options.command, kKeywordsOption);
  };
  for_each_json_line(path, take, options.format, options.report);
}

}  // namespace

std::vector<Sample> read_samples(const SampleOptions& options) {
  const std::vector<fs::path> files = find_files(options.paths);
  std::vector<Sample> samples;
  for (const fs::path& path : files) {
    const FileKind kind = kind_of(path);
    if (kind == FileKind::text) read_text(path, options, samples);
    if (kind == FileKind::table) read_table(path, options, samples);
    if (kind == FileKind::json_lines) read_json_lines(path, options, samples);
  }
  const std::string where = files.size() == 1
                                ? files[0].string()
                                : "the " + with_commas(files.size()) + " files of texts";
  if (std::all_of(samples.begin(), samples.end(), [](const Sample& s) { return s.text.empty(); })) {
    throw Error(Fault::bad_data, where + (files.size() == 1 ? " holds no text" : " hold no text"),
                {samples.empty() ? "there is nothing to measure"
                                 : "all of its " + counted(samples.size(), "text") + " are empty"});
  }
  if (!options.keywords_column.empty() &&
      std::all_of(samples.begin(), samples.end(),
                  [](const Sample& s) { return s.keywords.empty(); })) {
    throw Error(Fault::bad_data,
                "'" + options.keywords_column + "' is empty for all texts of " + where,
                {"there is no keyword to look for"});
  }
  return samples;
}

}  // namespace quire

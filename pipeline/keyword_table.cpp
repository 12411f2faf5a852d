#include "pipeline/keyword_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/json.h"
#include "base/parallel.h"
#include "base/text.h"

namespace quire {
namespace {

constexpr const char* kScores = "scores";  // beside the keywords in JSON

struct KeywordRow {
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

std::string json_row(const KeywordRow& row, const CsvReader& table, const std::string& column) {
  nlohmann::ordered_json object;
  for (std::size_t i = 0; i < row.fields.size(); ++i) {
    object[replace_invalid_utf8(table.columns()[i])] = replace_invalid_utf8(row.fields[i]);
  }
  auto keywords = nlohmann::ordered_json::array(), scores = keywords;
  for (const Keyword& keyword : row.keywords) {
    keywords.push_back(keyword.text);
    scores.push_back(keyword.score);
  }
  object[column] = std::move(keywords);
  object[kScores] = std::move(scores);
  return json_text(object) + "\n";
}

}  // namespace

std::size_t find_text_column(CsvReader& table, const KeywordTableOptions& options) {
  const std::vector<std::string>& columns = table.columns();
  const std::size_t text = table.text_column(options.text_column, "quire keywords");
  const auto taken = [&](const std::string& column) {
    return std::find(columns.begin(), columns.end(), column) != columns.end();
  };
  if (taken(options.output_column)) {
    throw Error(
        Fault::usage,
        fmt::format("{} has a column '{}' already", table.path().string(), options.output_column),
        {}, "`output_column` NAME, with another name for the new one"_named);
  }
  if (options.json && (taken(kScores) || options.output_column == kScores)) {
    throw Error(
        Fault::usage,
        fmt::format(fmt::runtime("with `json` '{}' is the name of the keywords' scores"_named),
                    kScores),
        {"the table, or `output_column`, has it too"_named}, "without `json`"_named);
  }
  return text;
}

KeywordCounts add_keywords(CsvReader& table, std::size_t text_column, const StopWords& stop_words,
                           const KeywordTableOptions& options, ReadingReport& report,
                           const KeywordCallbacks& callbacks) {
  const char delimiter = table.delimiter();
  const std::string line_end(table.line_end());
  if (!options.json) {
    callbacks.write((table.has_byte_order_mark() ? "\xEF\xBB\xBF" : "") +
                    std::string(table.separator_line()));
    if (table.has_header()) {
      callbacks.write(csv_row(table.row_text(), options.output_column, delimiter, line_end));
    }
  }
  constexpr std::size_t kBlock = 4096;  // rows in memory at once
  std::vector<KeywordRow> rows(kBlock);
  std::vector<std::string> lines(kBlock);
  KeywordCounts counts;
  for (std::size_t count = kBlock; count == kBlock && !callbacks.stop_requested();) {
    for (count = 0; count < kBlock && table.next(rows[count].fields); ++count) {
      rows[count].as_written = table.row_text();
      report.look(table.path(), table.line(), rows[count].fields[text_column]);
    }
    parallel_for(options.threads, count, [&](std::size_t i) {
      rows[i].keywords =
          extract_keywords(rows[i].fields[text_column], options.keywords, stop_words);
      lines[i] = options.json
                     ? json_row(rows[i], table, options.output_column)
                     : csv_row(rows[i].as_written, joined(rows[i].keywords), delimiter, line_end);
    });
    std::string block;
    for (std::size_t i = 0; i < count; ++i) {
      block += lines[i];
      counts.keywords += rows[i].keywords.size();
    }
    callbacks.write(block);
    counts.rows += count;
  }
  counts.stopped = callbacks.stop_requested();
  return counts;
}

}  // namespace quire

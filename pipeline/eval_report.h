// The numbers of an evaluation: a table for people, JSON, and the two files of a folder of results.
#pragma once

#include <filesystem>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "pipeline/measures.h"

namespace quire {

/// One evaluation, and another one of the same metrics beside it, or none.
struct EvalReport {
  std::string title;  ///< what was measured, for the first line of the .txt
  std::vector<Metric> metrics;
  std::string baseline_title;
  std::vector<Metric> baseline;                            ///< empty: none
  std::string name = "value", baseline_name = "baseline";  ///< head their columns of the table
};

/// What two models, or files, are called beside each other: as they are typed where that is short,
/// else the last parts of their paths, as many as it takes to tell them apart.
std::pair<std::string, std::string> distinct_names(const std::string& a, const std::string& b);

/// Without a baseline {name: value, …}; with one also "baseline": {…} and "difference": {…}, value
/// less baseline. Numbers that are not there are null. One line, without its end.
std::string to_json(const EvalReport& report);

/// A row a metric: value, and with a baseline that and the difference; measures to four decimals. In
/// at most so many columns, as format_table() has it.
std::string to_table(const EvalReport& report, int columns = std::numeric_limits<int>::max());

/// "metric,value" and with a baseline "metric,value,baseline,difference".
std::string to_csv(const EvalReport& report);

/// Writes DIR/evaluation_metrics.txt, whose path it returns, and .csv, each replaced as a whole; other
/// files stay. Throws Error(usage) when DIR cannot be a folder.
std::filesystem::path write_report(const std::filesystem::path& folder, const EvalReport& report);

/// Throws Error(usage) where DIR has a report already.
void check_no_report(const std::filesystem::path& folder);

}  // namespace quire

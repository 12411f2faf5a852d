// The numbers of an evaluation: a table for people, JSON, and the two files of a results folder.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace quire {

struct Metric {
  std::string name;    ///< "distinct_2", the key in JSON and CSV
  double value = 0;    ///< NaN where there is nothing to measure
  bool count = false;  ///< a whole number of things, not a measure
};

/// One evaluation, and another one of the same metrics beside it, or none.
struct EvalReport {
  std::string title;  ///< what was measured, for the first line of the .txt
  std::vector<Metric> metrics;
  std::string baseline_title;
  std::vector<Metric> baseline;  ///< empty: none
};

/// Without a baseline {name: value, …}; with one also "baseline": {…} and "difference": {…}, value
/// less baseline. Numbers that are not there are null. One line, without its end.
std::string to_json(const EvalReport& report);

/// A row a metric: value, and with a baseline that and the difference.
std::string to_table(const EvalReport& report);

/// "metric,value" and with a baseline "metric,value,baseline,difference".
std::string to_csv(const EvalReport& report);

/// Writes DIR/evaluation_metrics.txt and .csv, each replaced as a whole; other files stay. Throws
/// Error(usage) when DIR cannot be a folder.
void write_report(const std::filesystem::path& folder, const EvalReport& report);

/// Throws Error(usage) where DIR has a report already.
void check_no_report(const std::filesystem::path& folder);

}  // namespace quire

#include "pipeline/eval_report.h"

#include <cmath>
#include <iterator>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/numbers.h"
#include "base/text.h"
#include "base/text_width.h"

namespace quire {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr const char* kTableFile = "evaluation_metrics.txt";
constexpr const char* kCsvFile = "evaluation_metrics.csv";

Json number(const Metric& metric, double value) {
  if (!std::isfinite(value)) return nullptr;
  if (metric.count) return static_cast<std::int64_t>(value);
  return value;
}

/// Of metric number i: its value, and with a baseline that one's and the difference.
std::vector<double> values_of(const EvalReport& report, std::size_t i) {
  const double value = report.metrics[i].value;
  if (report.baseline.empty()) return {value};
  return {value, report.baseline[i].value, value - report.baseline[i].value};
}

std::string shown(const Metric& metric, double value, bool with_sign) {
  if (!std::isfinite(value)) return "-";
  const std::string sign = with_sign && value > 0 ? "+" : "";
  return sign +
         (metric.count ? with_commas(static_cast<std::int64_t>(value)) : fixed_number(value, 4));
}

/// The last parts of a path.
std::string tail_of(const fs::path& path, std::ptrdiff_t parts) {
  fs::path tail;
  std::ptrdiff_t before = std::distance(path.begin(), path.end()) - parts;
  for (const fs::path& part : path) {
    if (before-- <= 0) tail /= part;
  }
  return tail.string();
}

/// Without "." and a slash at the end.
fs::path plain_path(const std::string& name) {
  const fs::path path = fs::path(name).lexically_normal();
  return path.has_filename() ? path : path.parent_path();
}

}  // namespace

std::string to_json(const EvalReport& report) {
  Json objects[3] = {Json::object(), Json::object(), Json::object()};  // as values_of() has them
  for (std::size_t i = 0; i < report.metrics.size(); ++i) {
    const Metric& metric = report.metrics[i];
    Json* object = objects;
    for (const double value : values_of(report, i))
      (*object++)[metric.name] = number(metric, value);
  }
  if (!report.baseline.empty()) {
    objects[0]["baseline"] = std::move(objects[1]);
    objects[0]["difference"] = std::move(objects[2]);
  }
  return json_text(objects[0]);
}

std::pair<std::string, std::string> distinct_names(const std::string& a, const std::string& b) {
  constexpr int kShort = 24;  // columns
  if (a == b) return {a, b + " (baseline)"};
  const fs::path first = plain_path(a), second = plain_path(b);
  if (first == second || (display_width(a) <= kShort && display_width(b) <= kShort)) return {a, b};
  for (std::ptrdiff_t parts = 1;; ++parts) {
    const std::string name = tail_of(first, parts), other = tail_of(second, parts);
    if (name != other) return {name, other};
  }
}

std::string to_table(const EvalReport& report, int columns) {
  std::vector<std::vector<std::string>> rows = {{"metric", report.name}};
  if (!report.baseline.empty()) {
    rows[0].insert(rows[0].end(), {report.baseline_name, "difference"});
  }
  for (std::size_t i = 0; i < report.metrics.size(); ++i) {
    const Metric& metric = report.metrics[i];
    rows.push_back({metric.name});
    for (const double value : values_of(report, i)) {
      rows.back().push_back(shown(metric, value, /*with_sign=*/rows.back().size() == 3));
    }
  }
  return format_table(rows, columns);
}

std::string to_csv(const EvalReport& report) {
  std::string text =
      report.baseline.empty() ? "metric,value\n" : "metric,value,baseline,difference\n";
  for (std::size_t i = 0; i < report.metrics.size(); ++i) {
    text += report.metrics[i].name;
    for (const double value : values_of(report, i)) {
      const Json json = number(report.metrics[i], value);
      text += "," + (json.is_null() ? "" : json_text(json));
    }
    text += "\n";
  }
  return text;
}

void check_no_report(const fs::path& folder) {
  for (const char* name : {kTableFile, kCsvFile}) {
    std::error_code ignored;
    if (!fs::exists(folder / name, ignored)) continue;
    throw Error(Fault::usage, (folder / name).string() + " is there already", {},
                "another `output_dir`, or `overwrite_output_dir`"_named);
  }
}

fs::path write_report(const fs::path& folder, const EvalReport& report) {
  make_folder(folder);
  std::string text = report.title + "\n";
  if (!report.baseline.empty()) text += "baseline: " + report.baseline_title + "\n";
  write_file(folder / kTableFile, text + "\n" + to_table(report));
  write_file(folder / kCsvFile, to_csv(report));
  return folder / kTableFile;
}

}  // namespace quire

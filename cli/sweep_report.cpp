#include "cli/sweep_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <tuple>

#include "base/json.h"
#include "base/text.h"
#include "cli/terminal.h"
#include "corpus/csv.h"
#include "report/svg.h"

namespace quire {
namespace {

using Json = nlohmann::ordered_json;

constexpr double kPanelWidth = 380, kPanelHeight = 260, kLeft = 64, kRight = 28, kTop = 36,
                 kBottom = 44, kHeading = 44;
constexpr int kPanelsInARow = 3;
constexpr const char* kBest = "#c0392b";
constexpr const char* kOther = "#5b7fa6";

std::string shown(const Json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_number_float()) return compact_number(value.get<double>());
  return json_text(value);
}

std::string shown_value(const RunResult& result) {
  return std::isfinite(result.value) ? fmt::format("{:.4f}", result.value) : "-";
}

/// From values to places between 0 and 1, none of them at an end: what stands at one would lie on
/// the axis and its labels.
struct Scale {
  double low = 0, high = 1;
  bool logarithmic = false;

  static constexpr double kMargin = 0.06;  // 17 of 288 pixels; points have a radius of 5

  static Scale linear(const std::vector<double>& values) { return {values, false}; }
  /// Logarithmic where the values span a factor of ten.
  static Scale wide(const std::vector<double>& values) {
    const auto [least, most] = extent(values);
    return {values, least > 0 && most >= 10 * least};
  }
  /// There too, and where three or more lie nearer to equal ratios than to equal
  /// distances: 0.0002, 0.0005, 0.001.
  static Scale of_list(const std::vector<double>& values) {
    return near_ratios(values) ? Scale(values, true) : wide(values);
  }

  Scale(const std::vector<double>& values, bool wants_logarithmic) {
    std::tie(low, high) = extent(values);
    logarithmic = wants_logarithmic && low > 0 && high > low;
    if (logarithmic) {
      const double margin = std::pow(high / low, kMargin / (1 - 2 * kMargin));
      low /= margin;
      high *= margin;
      return;
    }
    // One value stands in the middle.
    const double beside = high > low   ? (high - low) * kMargin / (1 - 2 * kMargin)
                          : low == 0.0 ? 1
                                       : std::abs(low) / 10;
    low -= beside;
    high += beside;
  }

  double at(double value) const {
    if (logarithmic) return std::log(value / low) / std::log(high / low);
    return (value - low) / (high - low);
  }
  std::vector<double> ticks(double parts) const {
    return logarithmic ? log_ticks(low, high) : round_ticks(low, high, parts);
  }

 private:
  /// Of the finite ones; {0, 1} where there are none.
  static std::pair<double, double> extent(const std::vector<double>& values) {
    double least = INFINITY, most = -INFINITY;
    for (const double value : values) {
      if (!std::isfinite(value)) continue;
      least = std::min(least, value);
      most = std::max(most, value);
    }
    return least <= most ? std::pair{least, most} : std::pair{0.0, 1.0};
  }

  static bool near_ratios(std::vector<double> values) {
    std::sort(values.begin(), values.end());
    values.erase(std::unique(values.begin(), values.end()), values.end());
    if (values.size() < 3 || values.front() <= 0) return false;
    // How unlike each other the gaps are, once in distances and once in ratios.
    double least[2] = {INFINITY, INFINITY}, most[2] = {0, 0};
    for (std::size_t i = 1; i < values.size(); ++i) {
      const double gaps[2] = {values[i] - values[i - 1], std::log(values[i] / values[i - 1])};
      for (int kind = 0; kind < 2; ++kind) {
        least[kind] = std::min(least[kind], gaps[kind]);
        most[kind] = std::max(most[kind], gaps[kind]);
      }
    }
    return most[1] / least[1] < (1 - 1e-9) * most[0] / least[0];
  }
};

class Panel {
 public:
  Panel(int number, const std::string& title, Scale x, Scale y)
      : left_(kPanelWidth * (number % kPanelsInARow) + kLeft),
        right_(left_ + kPanelWidth - kLeft - kRight),
        top_(top_of(number / kPanelsInARow)),
        bottom_(top_ + kPanelHeight - kTop - kBottom),
        x_(x),
        y_(y) {
    svg_ = svg_text(left_, top_ - 12, "font-weight=\"bold\"", title);
    svg_ += svg_line(left_, bottom_, right_, bottom_, "stroke=\"#888888\"");
    svg_ += svg_line(left_, top_, left_, bottom_, "stroke=\"#888888\"");
    for (const double value : y_.ticks(4)) {
      svg_ += svg_line(left_, this->y(value), right_, this->y(value), "stroke=\"#e4e4e4\"");
      svg_ += svg_text(left_ - 8, this->y(value) + 4,
                       "class=\"tick\" text-anchor=\"end\" font-size=\"10\"",
                       fmt::format("{:.4g}", value));
    }
  }

  /// Below the axis: `tried`, where they are far enough apart to be read, else round numbers.
  void label_numbers(std::vector<double> tried = {}) {
    std::sort(tried.begin(), tried.end());
    tried.erase(std::unique(tried.begin(), tried.end()), tried.end());
    bool readable = !tried.empty();
    for (std::size_t i = 1; i < tried.size(); ++i) {
      readable = readable && x(tried[i]) - x(tried[i - 1]) >= kLabelWidth;
    }
    for (const double value : readable ? tried : x_.ticks(3)) label(value, shown(value), 16);
  }
  void label_words(const std::vector<std::string>& words) {
    const double room =
        (right_ - left_) / static_cast<double>(std::max<std::size_t>(1, words.size()));
    const int columns = std::clamp(static_cast<int>(room / kLetterWidth), 2, 40);
    for (std::size_t i = 0; i < words.size(); ++i) {
      label(static_cast<double>(i), words[i], columns);
    }
  }
  double x(double value) const { return left_ + x_.at(value) * (right_ - left_); }
  double y(double value) const { return bottom_ - y_.at(value) * (bottom_ - top_); }

  void point(double at_x, double value, const std::string& title, bool best, bool hollow) {
    const char* colour = best ? kBest : kOther;
    svg_ += fmt::format(
        "<circle class=\"run\" cx=\"{:.2f}\" cy=\"{:.2f}\" r=\"{}\" fill=\"{}\" stroke=\"{}\" "
        "fill-opacity=\"0.8\"><title>{}</title></circle>\n",
        at_x, y(value), best ? 5 : 4, hollow ? "white" : colour, colour, escape_markup(title));
  }
  void curve(const std::vector<std::pair<std::int64_t, double>>& points, const std::string& title,
             bool best) {
    std::string path;
    for (const auto& [step, loss] : points) {
      if (!std::isfinite(loss)) continue;
      path += fmt::format("{}{:.2f},{:.2f}", path.empty() ? "" : " ", x(static_cast<double>(step)),
                          y(loss));
    }
    svg_ += fmt::format(
        "<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"{}\" "
        "stroke-opacity=\"{}\"><title>{}</title></polyline>\n",
        path, best ? kBest : kOther, best ? 2 : 1, best ? 1 : 0.6, escape_markup(title));
  }
  const std::string& svg() const { return svg_; }

 private:
  static constexpr double kLetterWidth = 6,
                          kLabelWidth = 42;  // of letters 10 pixels high; "0.0002"

  void label(double value, const std::string& text, int columns) {
    svg_ += svg_line(x(value), bottom_, x(value), bottom_ + 4, "stroke=\"#888888\"");
    svg_ +=
        svg_text(x(value), bottom_ + 17, "class=\"tick\" text-anchor=\"middle\" font-size=\"10\"",
                 cut_to_width(text, columns));
  }
  static double top_of(int row) { return kHeading + kPanelHeight * row + kTop; }

  double left_, right_, top_, bottom_;
  Scale x_, y_;
  std::string svg_;
};

std::string title_of(const SweepRow& row, const Sweep& sweep) {
  return fmt::format("{}: {} {}, {}", row.name, sweep.metric, shown_value(row.result),
                     json_text(row.configuration));
}

std::string curves_panel(const Sweep& sweep, const std::vector<SweepRow>& rows) {
  const bool training = sweep.metric == "loss";
  std::vector<double> steps, losses;
  for (const SweepRow& row : rows) {
    for (const auto& [step, loss] : training ? row.curve.training : row.curve.validation) {
      if (!std::isfinite(loss)) continue;
      steps.push_back(static_cast<double>(step));
      losses.push_back(loss);
    }
  }
  Panel panel(0, training ? "loss by step" : "eval_loss by step", Scale::linear(steps),
              Scale::wide(losses));
  panel.label_numbers();
  for (std::size_t i = rows.size(); i-- > 0;) {  // the best lies on top
    panel.curve(training ? rows[i].curve.training : rows[i].curve.validation,
                title_of(rows[i], sweep), i == 0);
  }
  return panel.svg();
}

std::string option_panel(int number, const SearchDimension& dimension, const Sweep& sweep,
                         const std::vector<SweepRow>& rows) {
  const std::string& option = dimension.option;
  std::vector<double> values, numbers;
  std::vector<std::string> words;  // in the order of the search
  bool numeric = true;
  for (const SweepRow& row : rows) {
    const Json& value = row.configuration[option];
    values.push_back(row.result.value);
    numeric = numeric && value.is_number();
    if (std::find(words.begin(), words.end(), shown(value)) == words.end()) {
      words.push_back(shown(value));
    }
  }
  std::sort(words.begin(), words.end());
  const auto number_of = [&](const SweepRow& row) {
    const Json& value = row.configuration[option];
    if (numeric) return value.get<double>();
    return static_cast<double>(std::find(words.begin(), words.end(), shown(value)) - words.begin());
  };
  for (const SweepRow& row : rows) numbers.push_back(number_of(row));
  const Scale scale = !numeric                    ? Scale::linear(numbers)
                      : dimension.choices.empty() ? Scale(numbers, dimension.logarithmic)
                                                  : Scale::of_list(numbers);
  Panel panel(number, sweep.metric + " by " + option, scale, Scale::wide(values));
  if (!numeric) {
    panel.label_words(words);
  } else if (dimension.choices.empty()) {
    panel.label_numbers();
  } else {
    panel.label_numbers(numbers);
  }
  for (std::size_t i = rows.size(); i-- > 0;) {
    if (!std::isfinite(rows[i].result.value)) continue;
    panel.point(panel.x(number_of(rows[i])), rows[i].result.value, title_of(rows[i], sweep), i == 0,
                rows[i].result.round < rows[0].result.round);
  }
  return panel.svg();
}

}  // namespace

std::vector<SweepRow> ranked(std::vector<SweepRow> rows) {
  const auto key = [](const SweepRow& row) {
    const RunResult& r = row.result;
    const int kind = r.status == RunStatus::done       ? 0
                     : r.status == RunStatus::diverged ? 1
                     : r.status == RunStatus::failed   ? 2
                                                       : 3;
    return std::make_tuple(kind, -r.round, kind == 0 ? r.value : 0.0);
  };
  std::stable_sort(rows.begin(), rows.end(),
                   [&](const SweepRow& a, const SweepRow& b) { return key(a) < key(b); });
  return rows;
}

std::string sweep_table(const Sweep& sweep, const std::vector<SweepRow>& rows, int columns) {
  const bool rounds = sweep.rounds > 1;
  std::vector<std::vector<std::string>> table = {{"run", "status"}};
  if (rounds) table[0].emplace_back("round");
  table[0].insert(table[0].end(), {"step", sweep.metric, "time"});
  for (const SearchDimension& d : sweep.search) table[0].push_back(d.option);
  for (const SweepRow& row : rows) {
    std::vector<std::string>& line = table.emplace_back();
    line = {row.name, name_of(row.result.status)};
    if (rounds) line.push_back(std::to_string(row.result.round));
    line.insert(line.end(), {std::to_string(row.result.step), shown_value(row.result),
                             human_duration(row.result.seconds)});
    for (const SearchDimension& d : sweep.search)
      line.push_back(shown(row.configuration[d.option]));
  }
  return format_table(table, columns);
}

std::string sweep_csv(const Sweep& sweep, const std::vector<SweepRow>& rows) {
  std::string text = "rank,run,status,round,step," + sweep.metric + ",seconds";
  for (const SearchDimension& d : sweep.search) text += "," + d.option;
  text += "\n";
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const RunResult& result = rows[i].result;
    text += fmt::format("{},{},{},{},{},{},{:.1f}", i + 1, rows[i].name, name_of(result.status),
                        result.round, result.step,
                        std::isfinite(result.value) ? compact_number(result.value) : "",
                        result.seconds);
    for (const SearchDimension& d : sweep.search) {
      text += "," + csv_field(shown(rows[i].configuration[d.option]));
    }
    text += "\n";
  }
  return text;
}

std::string sweep_svg(const Sweep& sweep, const std::vector<SweepRow>& rows) {
  const int panels = 1 + static_cast<int>(sweep.search.size());
  const int lines = (panels + kPanelsInARow - 1) / kPanelsInARow;
  std::string svg =
      svg_open(kPanelWidth * std::min(panels, kPanelsInARow), kHeading + kPanelHeight * lines);
  svg += svg_text(16, 26, "font-size=\"16\"",
                  fmt::format("{} runs by {}; the best, in red: {} with {}{}", rows.size(),
                              sweep.metric, rows[0].name, shown_value(rows[0].result),
                              sweep.rounds > 1 ? "; rings: ended in an earlier round" : ""));
  svg += curves_panel(sweep, rows);
  for (std::size_t i = 0; i < sweep.search.size(); ++i) {
    svg += option_panel(static_cast<int>(i) + 1, sweep.search[i], sweep, rows);
  }
  return svg + "</svg>\n";
}

}  // namespace quire

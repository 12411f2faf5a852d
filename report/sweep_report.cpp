#include "report/sweep_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <tuple>

#include "base/json.h"
#include "base/numbers.h"
#include "base/text_width.h"
#include "corpus/csv.h"
#include "report/plot.h"

namespace quire {
namespace {

using Json = nlohmann::ordered_json;

constexpr double kPanelWidth = 380, kPanelHeight = 260, kPanelLeft = 64, kPanelRight = 28,
                 kPanelTop = 36, kPanelBottom = 44, kHeading = 44;
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

constexpr PlotStyle kStyle = {.grid = "stroke=\"#e4e4e4\"",
                              .mark = "stroke=\"#888888\"",
                              .beside = "class=\"tick\" text-anchor=\"end\" font-size=\"10\"",
                              .below = "class=\"tick\" text-anchor=\"middle\" font-size=\"10\"",
                              .drop = 17};

/// The `number`th of the panels, with its axes and the names of the one on the left.
Plot panel(int number, const std::string& title, const PlotScale& x, const PlotScale& y) {
  const int row = number / kPanelsInARow, column = number % kPanelsInARow;
  const double left = kPanelWidth * column + kPanelLeft,
               top = kHeading + kPanelHeight * row + kPanelTop;
  Plot plot{left,
            top,
            left + kPanelWidth - kPanelLeft - kPanelRight,
            top + kPanelHeight - kPanelTop - kPanelBottom,
            x,
            y,
            kStyle};
  plot.text(plot.left, plot.top - 12, "font-weight=\"bold\"", title);
  plot.line(plot.left, plot.bottom, plot.right, plot.bottom, kStyle.mark);
  plot.line(plot.left, plot.top, plot.left, plot.bottom, kStyle.mark);
  for (const double value : y.ticks(4)) plot.across(value, fmt::format("{:.4g}", value));
  return plot;
}

// Of letters 10 pixels high; "0.0002".
constexpr double kLetterWidth = 6, kLabelWidth = 42;

/// `tried`, where they are far enough apart to be read, else round numbers.
void label_numbers(Plot& plot, std::vector<double> tried = {}) {
  std::sort(tried.begin(), tried.end());
  tried.erase(std::unique(tried.begin(), tried.end()), tried.end());
  bool readable = !tried.empty();
  for (std::size_t i = 1; i < tried.size(); ++i) {
    readable = readable && plot.x(tried[i]) - plot.x(tried[i - 1]) >= kLabelWidth;
  }
  for (const double value : readable ? tried : plot.x_scale.ticks(3)) {
    plot.below(value, cut_to_width(shown(value), 16));
  }
}

void label_words(Plot& plot, const std::vector<std::string>& words) {
  const double room =
      (plot.right - plot.left) / static_cast<double>(std::max<std::size_t>(1, words.size()));
  const int columns = std::clamp(static_cast<int>(room / kLetterWidth), 2, 40);
  for (std::size_t i = 0; i < words.size(); ++i) {
    plot.below(static_cast<double>(i), cut_to_width(words[i], columns));
  }
}

std::string title_of(const SweepRow& row, const Sweep& sweep) {
  return fmt::format("{}: {} {}, {}", row.name, sweep.metric, shown_value(row.result),
                     json_text(row.configuration));
}

std::string curves_panel(const Sweep& sweep, const std::vector<SweepRow>& rows) {
  const bool training = sweep.metric == "loss";
  std::vector<double> steps, losses;
  std::vector<std::vector<PlotPoint>> curves;
  for (const SweepRow& row : rows) {
    std::vector<PlotPoint>& curve = curves.emplace_back();
    for (const auto& [step, loss] : training ? row.curve.training : row.curve.validation) {
      if (!std::isfinite(loss)) continue;
      curve.push_back({static_cast<double>(step), loss});
      steps.push_back(curve.back().x);
      losses.push_back(loss);
    }
  }
  Plot plot = panel(0, training ? "loss by step" : "eval_loss by step", PlotScale::around(steps),
                    PlotScale::wide(losses));
  label_numbers(plot);
  for (std::size_t i = rows.size(); i-- > 0;) {  // the best lies on top
    plot.curve(curves[i],
               fmt::format("stroke=\"{}\" stroke-width=\"{}\" stroke-opacity=\"{}\"",
                           i == 0 ? kBest : kOther, i == 0 ? 2 : 1, i == 0 ? 1 : 0.6),
               title_of(rows[i], sweep));
  }
  return plot.svg;
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
  const PlotScale scale = !numeric ? PlotScale::around(numbers)
                          : dimension.choices.empty()
                              ? PlotScale::around(numbers, dimension.logarithmic)
                              : PlotScale::of_list(numbers);
  Plot plot = panel(number, sweep.metric + " by " + option, scale, PlotScale::wide(values));
  if (!numeric) {
    label_words(plot, words);
  } else {
    label_numbers(plot, dimension.choices.empty() ? std::vector<double>{} : numbers);
  }
  for (std::size_t i = rows.size(); i-- > 0;) {
    if (!std::isfinite(rows[i].result.value)) continue;
    const char* colour = i == 0 ? kBest : kOther;
    const bool hollow = rows[i].result.round < rows[0].result.round;
    plot.disc({number_of(rows[i]), rows[i].result.value}, i == 0 ? 5 : 4,
              fmt::format("fill=\"{}\" stroke=\"{}\" fill-opacity=\"0.8\"",
                          hollow ? "white" : colour, colour),
              "run", title_of(rows[i], sweep));
  }
  return plot.svg;
}

}  // namespace

std::vector<SweepRow> ranked(std::vector<SweepRow> rows) {
  const auto key = [](const SweepRow& row) {
    const RunResult& r = row.result;
    return std::make_tuple(r.status, -r.round, r.status == RunStatus::done ? r.value : 0.0);
  };
  std::ranges::stable_sort(rows, {}, key);
  return rows;
}

std::string in_words(const Configuration& configuration) {
  std::string text;
  for (const auto& [name, value] : configuration.items()) {
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ", name, shown(value));
  }
  return text;
}

std::vector<std::vector<std::string>> sweep_table(const Sweep& sweep,
                                                  const std::vector<SweepRow>& rows) {
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
  return table;
}

std::string sweep_json(const Sweep& sweep, std::size_t rank, const SweepRow& row,
                       const std::filesystem::path& folder) {
  const Json line = {{"rank", rank},
                     {"run", row.name},
                     {"status", name_of(row.result.status)},
                     {"round", row.result.round},
                     {"step", row.result.step},
                     {sweep.metric, row.result.value},
                     {"seconds", row.result.seconds},
                     {"options", row.configuration},
                     {"folder", (folder / row.name).string()}};
  return json_text(line) + "\n";
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

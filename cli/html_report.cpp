#include "cli/html_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "base/file.h"
#include "base/json.h"
#include "base/text.h"
#include "engine/training/log_jsonl.h"

namespace quire {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kStyle =
    "body{font:15px/1.5 sans-serif;max-width:46em;margin:2em auto;padding:0 1em;color:#222}\n"
    "h1{font-size:1.5em}h2{font-size:1.1em;margin-top:2em}\n"
    "svg{width:100%;height:auto}table{border-collapse:collapse}\n"
    "td{border-top:1px solid #ddd;padding:.2em 1em .2em 0;vertical-align:top}\n"
    "pre{white-space:pre-wrap;margin:0;font:13px/1.5 monospace}.prompt{color:#777}\n";

struct Point {
  double step, value;
};

struct Curve {
  const char* name;
  const char* colour;
  std::vector<Point> points;
};

constexpr double kWidth = 720, kHeight = 240, kLeft = 64, kRight = 704, kTop = 16, kBottom = 208;
constexpr std::size_t kColumns = 320;  // every second pixel: more points would not be seen

/// Of each column's points the least and the greatest, in their order: what a line through all of
/// them covers.
std::vector<Point> thinned(const std::vector<Point>& points) {
  if (points.size() <= 2 * kColumns) return points;
  std::vector<Point> kept;
  for (std::size_t column = 0; column < kColumns; ++column) {
    const auto begin =
        points.begin() + static_cast<std::ptrdiff_t>(points.size() * column / kColumns);
    const auto end =
        points.begin() + static_cast<std::ptrdiff_t>(points.size() * (column + 1) / kColumns);
    const auto [least, most] = std::minmax_element(
        begin, end, [](const Point& a, const Point& b) { return a.value < b.value; });
    kept.push_back(*std::min(least, most));
    if (least != most) kept.push_back(*std::max(least, most));
  }
  return kept;
}

/// 1, 2 or 5 times a power of ten: a step that cuts `span` into four to ten parts.
double round_step(double span) {
  const double power = std::pow(10.0, std::floor(std::log10(span / 4)));
  const double times = span / 4 / power;
  return power * (times >= 5 ? 5 : times >= 2 ? 2 : 1);
}

class Plot {
 public:
  explicit Plot(const std::vector<Curve>& curves) {
    bool any = false;
    for (const Curve& curve : curves) {
      for (const Point& point : curve.points) {
        low_ = any ? std::min(low_, point.value) : point.value;
        high_ = any ? std::max(high_, point.value) : point.value;
        last_ = std::max(last_, point.step);
        any = true;
      }
    }
    if (high_ - low_ <= 1e-12 * std::abs(high_)) {  // level: half of it to either side
      const double margin = high_ == 0 ? 1 : std::abs(high_) / 2;
      low_ -= margin;
      high_ += margin;
    }
    svg_ = fmt::format("<svg viewBox=\"0 0 {} {}\" font-family=\"sans-serif\" font-size=\"12\">\n",
                       kWidth, kHeight);
    grid();
    double name_at = kRight;
    for (const Curve& curve : curves) draw(curve, name_at);
    svg_ += "</svg>\n";
  }

  const std::string& svg() const { return svg_; }

 private:
  double x(double step) const { return kLeft + (kRight - kLeft) * step / std::max(last_, 1.0); }
  double y(double value) const {
    return kBottom - (kBottom - kTop) * (value - low_) / (high_ - low_);
  }

  void grid() {
    const double rise = round_step(high_ - low_);
    for (double at = std::ceil(low_ / rise) * rise; at <= high_; at += rise) {
      const double tick = std::abs(at) < rise / 1e6 ? 0 : at;
      svg_ += fmt::format(
          "<line x1=\"{0}\" y1=\"{2:.1f}\" x2=\"{1}\" y2=\"{2:.1f}\" stroke=\"#ddd\"/>"
          "<text x=\"{3}\" y=\"{4:.1f}\" text-anchor=\"end\">{5:.4g}</text>\n",
          kLeft, kRight, y(tick), kLeft - 6, y(tick) + 4, tick);
    }
    const double stride = std::max(1.0, round_step(std::max(last_, 1.0)));
    for (double at = 0; at <= last_; at += stride) {
      svg_ += fmt::format("<text x=\"{:.1f}\" y=\"{}\" text-anchor=\"middle\">{:.6g}</text>\n",
                          x(at), kBottom + 18, at);
    }
  }

  void draw(const Curve& curve, double& name_at) {
    std::string line;
    for (const Point& point : thinned(curve.points)) {
      line += fmt::format("{:.1f},{:.1f} ", x(point.step), y(point.value));
    }
    if (line.empty()) return;
    svg_ +=
        fmt::format("<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"1.5\"/>\n",
                    line, curve.colour);
    svg_ += fmt::format(
        "<text x=\"{}\" y=\"{}\" text-anchor=\"end\" fill=\"{}\">{} {:.4g}</text>\n", name_at,
        kTop - 4, curve.colour, escape_markup(curve.name), curve.points.back().value);
    name_at -= 140;
  }

  double low_ = 0, high_ = 0, last_ = 0;
  std::string svg_;
};

struct Story {
  std::vector<Json> lines;

  explicit Story(std::string_view log) {
    while (!log.empty()) {
      const std::size_t end = std::min(log.find('\n'), log.size());
      Json line = parse_json_or_discard<Json>(log.substr(0, end));
      if (line.is_object() && line.contains("step") && line["step"].is_number()) {
        lines.push_back(std::move(line));
      }
      log.remove_prefix(std::min(end + 1, log.size()));
    }
  }

  Curve curve(const char* name, const char* colour, const char* key) const {
    Curve curve{name, colour, {}};
    for (const Json& line : lines) {
      const auto found = line.find(key);
      if (found == line.end() || !found->is_number()) continue;  // null: not finite
      curve.points.push_back({line["step"].get<double>(), found->get<double>()});
    }
    return curve;
  }
};

std::string section(const char* title, const std::vector<Curve>& curves) {
  const bool empty = std::all_of(curves.begin(), curves.end(),
                                 [](const Curve& curve) { return curve.points.empty(); });
  if (empty) return "";
  return fmt::format("<h2>{}</h2>\n{}", title, Plot(curves).svg());
}

std::string text_of(const Json& value) {
  return escape_markup(value.is_string() ? value.get<std::string>() : json_text(value));
}

std::string warnings_of(const Story& story) {
  std::string html;
  for (const Json& line : story.lines) {
    if (line.contains("warning")) html += "<p>" + text_of(line["warning"]) + "</p>\n";
  }
  return html.empty() ? "" : "<h2>Warnings</h2>\n" + html;
}

std::string samples_of(const Story& story) {
  std::string rows;
  for (auto line = story.lines.rbegin(); line != story.lines.rend(); ++line) {
    if (!line->contains("sample") || !line->contains("prompt")) continue;
    rows += fmt::format(
        "<tr><td>{}</td><td><pre><span class=\"prompt\">{}</span>{}</pre></td></tr>\n",
        json_text((*line)["step"]), text_of((*line)["prompt"]), text_of((*line)["sample"]));
  }
  return rows.empty() ? "" : "<h2>Samples by step</h2>\n<table>\n" + rows + "</table>\n";
}

std::string options_of(std::string_view options) {
  std::string rows;
  const Json parsed = parse_json<Json>(options);
  for (const auto& [name, value] : parsed.items()) {
    rows += fmt::format("<tr><td>{}</td><td>{}</td></tr>\n", escape_markup(name), text_of(value));
  }
  return "<h2>Options</h2>\n<table>\n" + rows + "</table>\n";
}

}  // namespace

std::string report_html(const ReportPage& page) {
  const Story story(page.log);
  const std::string title = escape_markup(page.title);
  return fmt::format(
             "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
             "<title>{0}</title>\n<style>\n{1}</style>\n</head>\n<body>\n<h1>{0}</h1>\n",
             title, kStyle) +
         section("Loss", {story.curve("training", "#1f5fa8", "loss"),
                          story.curve("validation", "#c23b22", "eval_loss")}) +
         section("Learning rate", {story.curve("learning rate", "#1f5fa8", "learning_rate")}) +
         section("Gradient norm, before clipping",
                 {story.curve("gradient norm", "#1f5fa8", "grad_norm")}) +
         section("Tokens a second",
                 {story.curve("tokens a second", "#1f5fa8", "tokens_per_second")}) +
         section("Share of the machine's flops (MFU)", {story.curve("MFU", "#1f5fa8", "mfu")}) +
         warnings_of(story) + samples_of(story) + options_of(page.options) + "</body>\n</html>\n";
}

void HtmlReport::begin(const std::filesystem::path& output_dir, std::int64_t) {
  output_dir_ = output_dir;
}

void HtmlReport::eval(std::int64_t, double) {
  write();
}

void HtmlReport::end(RunEnd) {
  write();
}

void HtmlReport::discard() {
  std::filesystem::remove(output_dir_ / kFileName);
}

void HtmlReport::write() const {
  const std::string log = read_file(output_dir_ / JsonlLog::kFileName);
  write_file(output_dir_ / kFileName,
             report_html({.title = title_, .log = log, .options = options_}));
}

}  // namespace quire

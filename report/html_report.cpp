#include "report/html_report.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <ctime>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "base/file.h"
#include "base/json.h"
#include "base/numbers.h"
#include "base/text.h"
#include "engine/training/log_files.h"
#include "report/plot.h"

namespace quire {
namespace {

using Json = nlohmann::ordered_json;

// Pictures of 400 units stand side by side where there is room, and fill a screen of 400 pixels:
// the letters in them, 12 units high, are 11 to 14 pixels high on either.
constexpr const char* kStyleSheet =
    "body{font:15px/1.5 sans-serif;max-width:58em;margin:2em auto;padding:0 1em;color:#222}\n"
    "h1{font-size:1.4em;line-height:1.3;overflow-wrap:anywhere}h2{font-size:1.1em;margin:0}\n"
    "section{margin-top:1.5em}.plots{display:grid;column-gap:2em;"
    "grid-template-columns:repeat(auto-fit,minmax(min(100%,24em),1fr))}\n"
    "svg{display:block;width:100%;max-width:31em;height:auto}.key{margin:0}.key b{font-size:1.2em}"
    "\ntable{border-collapse:collapse;margin-top:.5em}\n"
    "td{border-top:1px solid #ddd;padding:.2em 1em .2em 0;vertical-align:top;"
    "overflow-wrap:anywhere}td:first-child{overflow-wrap:normal}\n"
    "pre{white-space:pre-wrap;margin:0;font:13px/1.5 monospace}.prompt{color:#777}\n"
    "@media(max-width:500px){body{margin:1em auto;padding:0 .8em}h1{font-size:1.2em}"
    "td{font-size:13px}}\n";

struct Curve {
  const char* name;
  const char* colour;
  std::vector<PlotPoint> points;
  bool few = false;  // measured now and then: each is a point of its own
};

constexpr double kWidth = 400, kHeight = 240, kPictureLeft = 74, kPictureRight = 390,
                 kPictureTop = 16, kPictureBottom = 194;
constexpr std::size_t kColumns = 160;  // every second pixel: more points would not be seen

/// Of each column's points the least and the greatest, in their order:
/// what a line through all of them covers.
std::vector<PlotPoint> thinned(const std::vector<PlotPoint>& points) {
  if (points.size() <= 2 * kColumns) return points;
  std::vector<PlotPoint> kept;
  for (std::size_t column = 0; column < kColumns; ++column) {
    const auto begin =
        points.begin() + static_cast<std::ptrdiff_t>(points.size() * column / kColumns);
    const auto end =
        points.begin() + static_cast<std::ptrdiff_t>(points.size() * (column + 1) / kColumns);
    const auto [least, most] = std::minmax_element(
        begin, end, [](const PlotPoint& a, const PlotPoint& b) { return a.y < b.y; });
    kept.push_back(*std::min(least, most));
    if (least != most) kept.push_back(*std::max(least, most));
  }
  return kept;
}

constexpr PlotStyle kPlotStyle = {.grid = "stroke=\"#ddd\"",
                                  .mark = "stroke=\"#888\"",
                                  .beside = "class=\"y\" text-anchor=\"end\"",
                                  .below = "class=\"x\" text-anchor=\"middle\"",
                                  .gap = 6,
                                  .decimals = 1};

void draw(Plot& plot, const Curve& curve) {
  const std::vector<PlotPoint> points = thinned(curve.points);
  if (points.size() > 1) {
    plot.curve(points, fmt::format("stroke=\"{}\" stroke-width=\"{}\"", curve.colour,
                                   curve.few ? 0.7 : 1.3));
  }
  if (!curve.few && points.size() > 1) return;
  for (const PlotPoint& point : points)
    plot.disc(point, 3, fmt::format("fill=\"{}\"", curve.colour));
}

/// Over steps from 0 on, and from the least value to the greatest.
std::string picture(const std::vector<Curve>& curves, const char* unit) {
  double low = INFINITY, high = -INFINITY, last = 1;
  for (const Curve& curve : curves) {
    for (const PlotPoint& point : curve.points) {
      low = std::min(low, point.y);
      high = std::max(high, point.y);
      last = std::max(last, point.x);
    }
  }
  if (high - low <= 1e-12 * std::abs(high)) {  // level: half of it to either side
    const double margin = high == 0 ? 1 : std::abs(high) / 2;
    low -= margin;
    high += margin;
  }
  Plot plot{kPictureLeft, kPictureTop, kPictureRight, kPictureBottom,
            {0, last},    {low, high}, kPlotStyle};
  for (const double at : plot.y_scale.ticks(4)) plot.across(at, fmt::format("{:.4g}", at));
  for (const double at : plot.x_scale.ticks(2.5)) {
    if (at == std::floor(at)) plot.below(at, fmt::format("{:.6g}", at));  // there are no half steps
  }
  plot.name_axes("step", kHeight - 8, unit, 14);
  for (const Curve& curve : curves) draw(plot, curve);
  return fmt::format(
      "<svg viewBox=\"0 0 {} {}\" font-family=\"sans-serif\" font-size=\"12\">\n{}</svg>\n", kWidth,
      kHeight, plot.svg);
}

struct Story {
  std::vector<Json> lines;

  explicit Story(std::string_view log) {
    while (!log.empty()) {
      Json line = parse_json_or_discard<Json>(take_until('\n', log));
      if (line.is_object() && line.contains("step") && line["step"].is_number()) {
        lines.push_back(std::move(line));
      }
    }
  }

  Curve curve(const char* name, const char* colour, const char* key) const {
    Curve curve{.name = name, .colour = colour, .points = {}};
    for (const Json& line : lines) {
      const auto found = line.find(key);
      if (found == line.end() || !found->is_number()) continue;  // null: not finite
      curve.points.push_back({line["step"].get<double>(), found->get<double>()});
    }
    return curve;
  }
};

/// A picture below its key: what a line is and where it ended are said above it, not in it.
std::string section(const char* title, const char* unit, const std::vector<Curve>& curves) {
  std::string key;
  for (const Curve& curve : curves) {
    if (curve.points.empty()) continue;
    key += fmt::format("{}<span style=\"color:{}\"><b>{}</b> {} {:.4g}</span>",
                       key.empty() ? "" : " &nbsp; ", curve.colour, curve.few ? "●" : "—",
                       escape_markup(curve.name), curve.points.back().y);
  }
  if (key.empty()) return "";
  return fmt::format("<section><h2>{}</h2>\n<p class=\"key\">{}</p>\n{}</section>\n", title, key,
                     picture(curves, unit));
}

std::string escaped_text(const Json& value) {
  return escape_markup(value.is_string() ? value.get<std::string>() : json_text(value));
}

std::string warnings_of(const Story& story) {
  std::string html;
  for (const Json& line : story.lines) {
    if (line.contains("warning")) html += "<p>" + escaped_text(line["warning"]) + "</p>\n";
  }
  return html.empty() ? "" : "<section><h2>Warnings</h2>\n" + html + "</section>\n";
}

std::string samples_of(const Story& story) {
  std::string rows;
  for (auto line = story.lines.rbegin(); line != story.lines.rend(); ++line) {
    if (!line->contains("sample") || !line->contains("prompt")) continue;
    rows +=
        fmt::format("<tr><td>{}</td><td><pre><span class=\"prompt\">{}</span>{}</pre></td></tr>\n",
                    json_text((*line)["step"]), escaped_text((*line)["prompt"]),
                    escaped_text((*line)["sample"]));
  }
  return rows.empty()
             ? ""
             : "<section><h2>Samples by step</h2>\n<table>\n" + rows + "</table></section>\n";
}

std::string table_of(const Json& options) {
  std::string rows;
  for (const auto& [name, value] : options.items()) {
    rows +=
        fmt::format("<tr><td>{}</td><td>{}</td></tr>\n", escape_markup(name), escaped_text(value));
  }
  return "<table>\n" + rows + "</table>\n";
}

std::string options_of(const Json& all, const Json& set) {
  std::string html = "<section>";
  if (!set.empty()) html += "<h2>Options that were set</h2>\n" + table_of(set);
  return html + "<details><summary>All options</summary>\n" + table_of(all) +
         "</details></section>\n";
}

/// "quotes.csv" of "data/quotes.csv", "processed" of "data/processed/".
std::string short_name(const std::string& path) {
  const std::filesystem::path whole(path);
  const std::filesystem::path last = whole.has_filename() ? whole : whole.parent_path();
  return last.filename().empty() ? path : last.filename().string();
}

/// "narrator trained on a.txt, b.txt and 3 more"
std::string subject_of(const Json& options) {
  const auto name = [&](const char* key) {
    const auto found = options.find(key);
    return found == options.end() || !found->is_string() ? "" : found->get<std::string>();
  };
  std::string subject = "A model";
  if (const std::string model = name("model"); !model.empty()) {
    subject = short_name(model);
  } else if (const std::string config = name("config"); !config.empty()) {
    subject = "A new model of " + short_name(config);
  }
  std::vector<std::string> data;
  if (const auto found = options.find("data"); found != options.end() && found->is_array()) {
    for (const Json& path : *found) {
      if (path.is_string()) data.push_back(short_name(path.get<std::string>()));
    }
  } else if (!name("data").empty()) {
    data.push_back(short_name(name("data")));
  }
  constexpr std::size_t kNamed = 3;
  for (std::size_t i = 0; i < std::min(data.size(), kNamed); ++i) {
    const bool last = i + 1 == data.size();
    subject += (i == 0 ? " trained on " : last ? " and " : ", ") + data[i];
  }
  if (data.size() > kNamed) subject += fmt::format(" and {} more", data.size() - kNamed);
  return subject;
}

std::string with_perplexity(double loss) {
  return fmt::format("{:.4g} (perplexity {})", loss, rounded_number(std::exp(loss), 4));
}

/// What `losses` came to, from where, and the best of them where that is another.
std::string course_of(const char* name, const Curve& losses) {
  const PlotPoint &first = losses.points.front(), &last = losses.points.back();
  const PlotPoint& best = *std::ranges::min_element(losses.points, {}, &PlotPoint::y);
  std::string text = fmt::format("{} {}", name, with_perplexity(last.y));
  if (first.x < last.x) {
    text += fmt::format(", from {} at step {}", with_perplexity(first.y), first.x);
  }
  if (best.y < last.y) {
    text += fmt::format("; the best, {}, at step {}", with_perplexity(best.y), best.x);
  }
  return text + ".";
}

struct Heading {
  std::string title, story;

  Heading(const ReportPage& page, const Json& options, const Curve& training,
          const Curve& validation) {
    const bool held_out = !validation.points.empty();
    const Curve& result = held_out ? validation : training;
    const char* name = held_out ? "validation loss" : "training loss";
    title = subject_of(options);
    if (!page.began.empty()) {
      title += fmt::format(", {}, {}", page.began, human_duration(page.seconds));
    }
    double last = 0;
    for (const Curve* curve : {&training, &validation}) {
      if (!curve->points.empty()) last = std::max(last, curve->points.back().x);
    }
    story = fmt::format("{}, at step {}", page.state, last);
    story.front() = static_cast<char>(std::toupper(static_cast<unsigned char>(story.front())));
    if (page.resumed_step >= 0) {
      story += fmt::format(", gone on from step {}, when the time began", page.resumed_step);
    }
    story += ". ";
    if (result.points.empty()) return;
    title += fmt::format(": {} {:.4g}", name, result.points.back().y);
    std::string course = course_of(name, result);
    course.front() = static_cast<char>(std::toupper(static_cast<unsigned char>(course.front())));
    story += course;
  }
};

}  // namespace

std::string report_html(const ReportPage& page) {
  const Story story(page.log);
  const Json options = parse_json<Json>(page.options), set = parse_json<Json>(page.set);
  const Curve training = story.curve("training", "#1f5fa8", "loss");
  Curve validation = story.curve("validation", "#c23b22", "eval_loss");
  validation.few = true;
  const Heading heading(page, options, training, validation);
  const auto single = [&](const char* title, const char* name, const char* key) {
    return section(title, name, {story.curve(name, "#1f5fa8", key)});
  };
  return fmt::format(
             "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
             "<meta name=\"viewport\" content=\"width=device-width\">\n"
             "<title>{0}</title>\n<style>\n{1}</style>\n</head>\n<body>\n<h1>{0}</h1>\n<p>{2}</p>\n"
             "<div class=\"plots\">\n",
             escape_markup(heading.title), kStyleSheet, escape_markup(heading.story)) +
         section("Loss", "nats a token", {training, validation}) +
         single("Learning rate", "learning rate", "learning_rate") +
         single("Gradient norm, before clipping", "gradient norm", "grad_norm") +
         single("Tokens a second", "tokens a second", "tokens_per_second") +
         single("Share of the machine's flops (MFU)", "MFU", "mfu") + "</div>\n" +
         warnings_of(story) + samples_of(story) + options_of(options, set) + "</body>\n</html>\n";
}

void HtmlReport::begin(const std::filesystem::path& output_dir, std::int64_t resumed_step) {
  output_dir_ = output_dir;
  resumed_step_ = resumed_step;
  start_ = std::chrono::steady_clock::now();
  began_ = fmt::format("{:%Y-%m-%d %H:%M}", fmt::localtime(std::time(nullptr)));
}

void HtmlReport::eval(std::int64_t, double) {
  write("running");
}

void HtmlReport::end(RunEnd how) {
  write(how == RunEnd::done ? "done" : how == RunEnd::interrupted ? "interrupted" : "diverged");
}

void HtmlReport::discard() {
  std::filesystem::remove(output_dir_ / kFileName);
}

void HtmlReport::write(const char* state) const {
  const std::string log = read_file(output_dir_ / JsonlLog::kFileName);
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start_;
  write_file(output_dir_ / kFileName, report_html({.log = log,
                                                   .options = options_,
                                                   .set = set_,
                                                   .began = began_,
                                                   .seconds = took.count(),
                                                   .resumed_step = resumed_step_,
                                                   .state = state}));
}

}  // namespace quire

#include "report/plot.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/text.h"

namespace quire {
namespace {

constexpr double kMargin =
    0.06;  // of an axis at each end: 17 of 288 pixels; points have a radius of 5

/// Of the finite ones; {0, 1} where there are none.
std::pair<double, double> extent(const std::vector<double>& values) {
  double least = INFINITY, most = -INFINITY;
  for (const double value : values) {
    if (!std::isfinite(value)) continue;
    least = std::min(least, value);
    most = std::max(most, value);
  }
  return least <= most ? std::pair{least, most} : std::pair{0.0, 1.0};
}

bool near_ratios(std::vector<double> values) {
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

std::string titled(const char* element, const std::string& title) {
  return title.empty() ? "/>\n"
                       : fmt::format("><title>{}</title></{}>\n", escape_markup(title), element);
}

}  // namespace

std::string svg_open(double width, double height) {
  return fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0:.0f}\" height=\"{1:.0f}\" "
      "viewBox=\"0 0 {0:.0f} {1:.0f}\" font-family=\"sans-serif\" font-size=\"12\">\n"
      "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n",
      width, height);
}

std::string svg_text(double left, double base, const std::string& attributes,
                     const std::string& content) {
  return fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" {}>{}</text>\n", left, base, attributes,
                     escape_markup(content));
}

std::vector<double> round_ticks(double low, double high, double parts) {
  const double least = (high - low) / parts;
  const double exponent = std::floor(std::log10(least) + 1e-9);
  const double times = least / std::pow(10.0, exponent);
  const double digit = times >= 5 - 1e-6 ? 5 : times >= 2 - 1e-6 ? 2 : 1;
  // Divided by a power of ten where that is whole: 3 / 10 is 0.3, 3 * 0.1 is not.
  const double power = std::pow(10.0, std::abs(exponent));
  const auto value = [&](double at) {
    return exponent < 0 ? at * digit / power : at * digit * power;
  };
  const double step = value(1);
  std::vector<double> ticks;
  for (double at = std::ceil(low / step - 1e-9); at <= high / step + 1e-9; ++at) {
    ticks.push_back(value(at) + 0.0);  // no -0
  }
  return ticks;
}

std::vector<double> log_ticks(double low, double high) {
  const auto first = static_cast<int>(std::ceil(std::log10(low) - 1e-9));
  const auto last = static_cast<int>(std::floor(std::log10(high) + 1e-9));
  const auto power = [](int exponent) {
    return exponent < 0 ? 1 / std::pow(10.0, -exponent) : std::pow(10.0, exponent);
  };
  std::vector<double> ticks;
  const int stride = 1 + (last - first) / 8;
  for (int exponent = first; exponent <= last; exponent += stride) ticks.push_back(power(exponent));
  if (ticks.size() >= 3 || (ticks.size() == 2 && high > 40 * low)) return ticks;
  ticks.clear();
  for (int exponent = first - 1; exponent <= last; ++exponent) {
    for (const double digit : {1, 2, 5}) {
      const double value = exponent < 0 ? digit / power(-exponent) : digit * power(exponent);
      if (value >= low * (1 - 1e-9) && value <= high * (1 + 1e-9)) ticks.push_back(value);
    }
  }
  return ticks.size() >= 2 ? ticks : round_ticks(low, high, 2);
}

PlotScale PlotScale::around(const std::vector<double>& values, bool logarithmic) {
  auto [low, high] = extent(values);
  if (logarithmic && low > 0 && high > low) {
    const double margin = std::pow(high / low, kMargin / (1 - 2 * kMargin));
    return {low / margin, high * margin, true};
  }
  const double beside = high > low   ? (high - low) * kMargin / (1 - 2 * kMargin)
                        : low == 0.0 ? 1
                                     : std::abs(low) / 10;
  return {low - beside, high + beside};
}

PlotScale PlotScale::wide(const std::vector<double>& values) {
  const auto [least, most] = extent(values);
  return around(values, least > 0 && most >= 10 * least);
}

PlotScale PlotScale::of_list(const std::vector<double>& values) {
  return near_ratios(values) ? around(values, true) : wide(values);
}

PlotScale PlotScale::decades(const std::vector<double>& values) {
  const auto [least, most] = extent(values);
  const double low = std::floor(std::log10(least));
  return {std::pow(10.0, low), std::pow(10.0, std::max(low + 1, std::ceil(std::log10(most)))),
          true};
}

double PlotScale::at(double value) const {
  if (logarithmic) return std::log(value / low) / std::log(high / low);
  return (value - low) / (high - low);
}

std::vector<double> PlotScale::ticks(double parts) const {
  return logarithmic ? log_ticks(low, high) : round_ticks(low, high, parts);
}

void Plot::line(double x1, double y1, double x2, double y2, const std::string& attributes) {
  svg += fmt::format("<line x1=\"{:.2f}\" y1=\"{:.2f}\" x2=\"{:.2f}\" y2=\"{:.2f}\" {}/>\n", x1, y1,
                     x2, y2, attributes);
}

void Plot::across(double value, const std::string& name) {
  line(left, y(value), right, y(value), style.grid);
  text(left - style.gap, y(value) + 4, style.beside, name);
}

void Plot::below(double value, const std::string& name) {
  const bool all_over = style.mark_all_over;
  line(x(value), all_over ? top : bottom, x(value), all_over ? bottom : bottom + 4, style.mark);
  text(x(value), bottom + style.drop, style.below, name);
}

void Plot::name_axes(const std::string& x_name, double base, const std::string& y_name,
                     double turned_base) {
  const double middle = (top + bottom) / 2;
  text((left + right) / 2, base, "text-anchor=\"middle\"", x_name);
  text(turned_base, middle,
       fmt::format("text-anchor=\"middle\" transform=\"rotate(-90 {} {})\"", turned_base, middle),
       y_name);
}

void Plot::curve(const std::vector<PlotPoint>& points, const std::string& attributes,
                 const std::string& title) {
  std::string path;
  for (const PlotPoint& point : points) {
    if (!std::isfinite(point.y)) continue;
    path += fmt::format("{}{:.{}f},{:.{}f}", path.empty() ? "" : " ", x(point.x), style.decimals,
                        y(point.y), style.decimals);
  }
  svg += fmt::format("<polyline points=\"{}\" fill=\"none\" {}{}", path, attributes,
                     titled("polyline", title));
}

void Plot::disc(const PlotPoint& at, double radius, const std::string& attributes,
                const std::string& kind, const std::string& title) {
  svg += fmt::format("<circle {}cx=\"{:.{}f}\" cy=\"{:.{}f}\" r=\"{}\" {}{}",
                     kind.empty() ? "" : "class=\"" + kind + "\" ", x(at.x), style.decimals,
                     y(at.y), style.decimals, radius, attributes, titled("circle", title));
}

}  // namespace quire

// The plotter of all pictures: pieces of an SVG, and an area of it with two axes.
#pragma once

#include <string>
#include <vector>

namespace quire {

/// The start of a white picture; "</svg>" ends it.
std::string svg_open(double width, double height);
std::string svg_text(double left, double base, const std::string& attributes,
                     const std::string& content);

/// The multiples of 1, 2 or 5 times a power of ten from `low` to `high` that cut it into `parts` to
/// 2.5 * `parts` parts. `low` < `high`.
std::vector<double> round_ticks(double low, double high, double parts);
/// The powers of ten from `low` to `high`, nine at most; where fewer than three are there and the
/// two span less than a factor of 40, 2 and 5 times them too; where even these are fewer than two,
/// round_ticks(). 0 < `low` < `high`.
std::vector<double> log_ticks(double low, double high);

/// From the values of an axis to places between 0 and 1.
struct PlotScale {
  double low = 0, high = 1;  ///< `low` < `high`; above 0 where it is logarithmic
  bool logarithmic = false;

  /// Room is left at both ends: what stands at one would lie on the axis and its names. One value
  /// stands in the middle. What is not finite does not count.
  static PlotScale around(const std::vector<double>& values, bool logarithmic = false);
  /// The same, logarithmic where the values span a factor of ten.
  static PlotScale wide(const std::vector<double>& values);
  /// There too, and where three or more lie nearer to equal ratios than to equal
  /// distances: 0.0002, 0.0005, 0.001.
  static PlotScale of_list(const std::vector<double>& values);
  /// Logarithmic, of whole decades, one at least.
  static PlotScale decades(const std::vector<double>& values);

  double at(double value) const;
  /// log_ticks(), or round_ticks() for so many parts.
  std::vector<double> ticks(double parts = 2) const;
};

/// What a kind of picture looks like: attributes, and distances in its units.
struct PlotStyle {
  const char* grid;            ///< of the lines across
  const char* mark;            ///< of those at the names below
  bool mark_all_over = false;  ///< from top to bottom; else 4 units, below the axis
  const char* beside;          ///< of names beside the axis
  const char* below;           ///< and below it
  double gap = 8, drop = 18;   ///< how far from it
  int decimals = 2;            ///< of points
};

struct PlotPoint {
  double x, y;
};

struct Plot {
  double left, top, right, bottom;
  PlotScale x_scale, y_scale;
  PlotStyle style;
  std::string svg = {};

  double x(double value) const { return left + x_scale.at(value) * (right - left); }
  double y(double value) const { return bottom - y_scale.at(value) * (bottom - top); }

  /// A line across the area, the value's name beside it.
  void across(double value, const std::string& name);
  /// A mark, the value's name below it.
  void below(double value, const std::string& name);
  /// What the axes mean, in lines of text with these bases: level, and turned to the left.
  void name_axes(const std::string& x_name, double base, const std::string& y_name,
                 double turned_base);
  /// Through the points that are finite. A title is what is shown where a mouse rests.
  void curve(const std::vector<PlotPoint>& points, const std::string& attributes,
             const std::string& title = {});
  /// `kind`: its class, or nothing.
  void disc(const PlotPoint& at, double radius, const std::string& attributes,
            const std::string& kind = {}, const std::string& title = {});

  void line(double x1, double y1, double x2, double y2, const std::string& attributes);
  void text(double x, double base, const std::string& attributes, const std::string& content) {
    svg += svg_text(x, base, attributes, content);
  }
};

}  // namespace quire

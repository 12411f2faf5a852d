// Pieces of pictures in SVG.
#pragma once

#include <string>
#include <vector>

namespace quire {

/// The start of a white picture; "</svg>" ends it.
std::string svg_open(double width, double height);
std::string svg_text(double left, double base, const std::string& attributes,
                     const std::string& content);
std::string svg_line(double x1, double y1, double x2, double y2, const std::string& attributes);

/// The multiples of 1, 2 or 5 times a power of ten from `low` to `high` that cut it into `parts` to
/// 2.5 * `parts` parts. `low` < `high`.
std::vector<double> round_ticks(double low, double high, double parts);
/// The powers of ten from `low` to `high`, nine at most; where fewer than three are there and the
/// two span less than a factor of 40, 2 and 5 times them too; where even these are fewer than two,
/// round_ticks(). 0 < `low` < `high`.
std::vector<double> log_ticks(double low, double high);

}  // namespace quire

// Pieces of pictures in SVG.
#pragma once

#include <string>

namespace quire {

/// The start of a white picture; "</svg>" ends it.
std::string svg_open(double width, double height);
std::string svg_text(double left, double base, const std::string& attributes,
                     const std::string& content);
std::string svg_line(double x1, double y1, double x2, double y2, const std::string& attributes);

}  // namespace quire

// A roofline picture as SVG: how many flops a second each kernel does over how many flops it has
// for a byte, below the two lines that memory and arithmetic draw.
//
// Williams, Waterman and Patterson, "Roofline: an insightful visual performance model for multicore
// architectures" (2009).
#pragma once

#include <string>
#include <vector>

namespace quire {

struct RooflinePoint {
  std::string name;
  double intensity = 0;  // flops a byte
  double flops_per_second = 0;
  std::string note;     // behind the name in the list, "88 %"
  bool hollow = false;  // a ring instead of a disc
  std::string why;      // it is above a line: marked in the list, and said once below it
};

struct Roofline {
  std::string title;
  double bytes_per_second = 0;  // the slanted line
  double flops_per_second = 0;  // the level one
  std::vector<RooflinePoint> points;
};

/// Points carry numbers, and a list beside the picture names them. Points without flops or bytes
/// have no place on the axes and are left out. One <circle class="point"> a point.
std::string roofline_svg(const Roofline& roofline);

}  // namespace quire

#include "report/roofline.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <numbers>
#include <sstream>

#include "base/text_width.h"
#include "report/plot.h"

namespace quire {
namespace {

constexpr double kLeft = 92, kTop = 56, kPlotWidth = 700, kRight = kLeft + kPlotWidth;
constexpr double kListLeft = kRight + 28, kListWidth = 440, kListLine = 16;
constexpr const char* kGrid = "stroke=\"#dddddd\"";
constexpr double kRadius = 4, kDigitWidth = 6.2, kDigitHeight = 10;

/// "1 k", "250 G", "0.1"
std::string short_number(double value) {
  constexpr std::array units = {"", "k", "M", "G", "T", "P"};
  std::size_t unit = 0;
  while (value >= 999.5 && unit + 1 < units.size()) {
    value /= 1000;
    ++unit;
  }
  return fmt::format("{:.3g}{}{}", value, unit == 0 ? "" : " ", units[unit]);
}

struct Box {
  double left, top, right, bottom;
  bool meets(const Box& b) const {
    return left < b.right && b.left < right && top < b.bottom && b.top < bottom;
  }
};

class Picture {
 public:
  explicit Picture(const Roofline& roofline) : roofline_(roofline) {
    for (const RooflinePoint& point : roofline.points) {
      if (point.intensity <= 0 || point.flops_per_second <= 0) continue;
      points_.push_back(point);
      if (!point.why.empty() && std::find(whys_.begin(), whys_.end(), point.why) == whys_.end()) {
        whys_.push_back(point.why);
      }
    }
    std::vector<double> xs = {ridge()}, ys = {roofline.flops_per_second};
    for (const RooflinePoint& point : points_) {
      xs.push_back(point.intensity);
      ys.push_back(point.flops_per_second);
      // The slanted line above the point belongs into the picture.
      ys.push_back(
          std::min(point.intensity * roofline.bytes_per_second, roofline.flops_per_second));
    }
    plot_.x_scale = PlotScale::decades(xs);
    plot_.y_scale = PlotScale::decades(ys);
  }

  std::string draw() {
    std::string below;
    for (const std::string& why : whys_) below += flow(mark_of(why) + " " + why, 62) + "\n";
    const auto lines = std::count(below.begin(), below.end(), '\n');
    const double list = kListLine * static_cast<double>(std::ssize(points_) + 2 + lines);
    plot_.bottom = kTop + std::clamp(list, 560.0, 900.0);
    plot_.text(kLeft, 28, "font-size=\"16\"", roofline_.title);
    grid();
    ceilings();
    for (const RooflinePoint& point : points_) {
      occupied_.push_back(
          {x(point) - kRadius, y(point) - kRadius, x(point) + kRadius, y(point) + kRadius});
    }
    for (std::size_t i = 0; i < points_.size(); ++i) place(i);
    double base = kTop + kListLine * static_cast<double>(points_.size() + 2);
    std::istringstream reasons(below);
    for (std::string line; std::getline(reasons, line); base += kListLine) {
      plot_.text(kListLeft + 30, base, "class=\"why\" fill=\"#555555\"", line);
    }
    const double height = std::max(plot_.bottom + 64, kTop + list + 24);
    return svg_open(kListLeft + kListWidth, height) + plot_.svg + "</svg>\n";
  }

 private:
  double ridge() const { return roofline_.flops_per_second / roofline_.bytes_per_second; }
  double x(double intensity) const { return plot_.x(intensity); }
  double y(double flops) const { return plot_.y(flops); }
  double x(const RooflinePoint& point) const { return x(point.intensity); }
  double y(const RooflinePoint& point) const { return y(point.flops_per_second); }

  void grid() {
    for (const double at : plot_.x_scale.ticks()) plot_.below(at, short_number(at));
    for (const double at : plot_.y_scale.ticks()) plot_.across(at, short_number(at));
    plot_.name_axes("flops per byte", plot_.bottom + 42, "flops per second", 24);
  }

  void ceilings() {
    const double memory = roofline_.bytes_per_second, compute = roofline_.flops_per_second;
    const double x_low = plot_.x_scale.low, y_low = plot_.y_scale.low;
    // From where the slanted line enters the picture, at its left or its lower edge.
    const double from = std::max(x_low, y_low / memory);
    plot_.line(x(from), y(from * memory), x(ridge()), y(compute),
               "class=\"memory\" stroke=\"black\" stroke-width=\"1.5\"");
    plot_.line(x(ridge()), y(compute), kRight, y(compute),
               "class=\"compute\" stroke=\"black\" stroke-width=\"1.5\"");
    // The names stand above the lines, each at the end away from the ridge.
    const std::string level = fmt::format("arithmetic {}FLOP/s", short_number(compute));
    const double width = kDigitWidth * static_cast<double>(level.size());
    const double base = y(compute) - 7;
    plot_.text(kRight - 4, base, "text-anchor=\"end\"", level);
    occupied_.push_back({kRight - 4 - width, base - 12, kRight - 4, base + 3});

    const double slope = (y(y_low) - y(10 * y_low)) / (x(10 * x_low) - x(x_low));
    const double angle = std::atan(slope);
    const std::string slanted = fmt::format("memory {}B/s", short_number(memory));
    const double at_x = x(from) + 20 * std::cos(angle) - 8 * std::sin(angle);
    const double at_y = y(from * memory) - 20 * std::sin(angle) - 8 * std::cos(angle);
    plot_.text(at_x, at_y,
               fmt::format("transform=\"rotate({:.2f} {:.1f} {:.1f})\"",
                           -angle * 180 / std::numbers::pi, at_x, at_y),
               slanted);
    for (double along = 0; along < kDigitWidth * static_cast<double>(slanted.size()); along += 6) {
      const double cx = at_x + along * std::cos(angle), cy = at_y - along * std::sin(angle);
      occupied_.push_back({cx - 7, cy - 11, cx + 7, cy + 5});
    }
  }

  /// "a" for the first reason, "b" for the next.
  std::string mark_of(const std::string& why) const {
    if (why.empty()) return "";
    const auto place = std::find(whys_.begin(), whys_.end(), why) - whys_.begin();
    return fmt::format("({})", static_cast<char>('a' + place));
  }

  std::string colour_of(const std::string& name) {
    const std::string family = name.substr(0, name.find_first_of("_/"));
    const auto known = families_.try_emplace(family, families_.size()).first;
    // The golden angle apart: neighbours differ, however many there are.
    return fmt::format("hsl({:.0f},70%,38%)",
                       std::fmod(210 + 137.508 * static_cast<double>(known->second), 360));
  }

  /// The point, its number where there is room for it, and its line in the list.
  void place(std::size_t index) {
    const RooflinePoint& point = points_[index];
    const std::string number = std::to_string(index + 1);
    const std::string colour = colour_of(point.name);
    const double cx = x(point), cy = y(point);
    const Box box = free_box(cx, cy, kDigitWidth * static_cast<double>(number.size()));
    const double middle_x = (box.left + box.right) / 2, middle_y = (box.top + box.bottom) / 2;
    if (std::hypot(middle_x - cx, middle_y - cy) > 20) {
      const double towards_x = std::clamp(cx, box.left, box.right);
      const double towards_y = std::clamp(cy, box.top, box.bottom);
      plot_.line(cx, cy, towards_x, towards_y,
                 fmt::format("stroke=\"{}\" stroke-width=\"0.5\"", colour));
    }
    const std::string mark = point.why.empty() ? "" : " " + mark_of(point.why);
    const std::string note = fmt::format("{} {}{}", point.name, point.note, mark);
    plot_.disc({point.intensity, point.flops_per_second}, kRadius - 0.75,
               fmt::format("fill=\"{}\" stroke=\"{}\" stroke-width=\"1.5\"",
                           point.hollow ? "white" : colour, colour),
               "point", note);
    plot_.text(box.left, box.bottom - 1,
               fmt::format("class=\"number\" font-size=\"10\" fill=\"{}\"", colour), number);

    const double base = kTop + kListLine * static_cast<double>(index + 1);
    plot_.text(kListLeft + 22, base, fmt::format("text-anchor=\"end\" fill=\"{}\"", colour),
               number);
    plot_.text(kListLeft + 30, base, "class=\"name\"", point.name);
    plot_.text(kListLeft + kListWidth - 16, base, "text-anchor=\"end\"", point.note + mark);
  }

  /// A box for a number near (cx, cy) that meets nothing drawn so far;
  /// beside the point where there is none.
  Box free_box(double cx, double cy, double width) {
    const auto box_at = [&](double middle_x, double middle_y) {
      return Box{middle_x - width / 2, middle_y - kDigitHeight / 2, middle_x + width / 2,
                 middle_y + kDigitHeight / 2};
    };
    Box found = box_at(cx + kRadius + width / 2 + 2, cy);
    bool free = false;
    for (double distance = 11; distance < 160 && !free; distance += 3) {
      for (int step = 0; step < 24 && !free; ++step) {
        const double angle = step * std::numbers::pi / 12;
        const Box box =
            box_at(cx + (distance + width / 4) * std::cos(angle), cy - distance * std::sin(angle));
        const bool inside = box.left > kLeft && box.right < kRight && box.top > kTop - 14 &&
                            box.bottom < plot_.bottom;
        free = inside && std::none_of(occupied_.begin(), occupied_.end(),
                                      [&](const Box& other) { return box.meets(other); });
        if (free) found = box;
      }
    }
    occupied_.push_back(found);
    return found;
  }

  const Roofline& roofline_;
  std::vector<RooflinePoint> points_;
  std::vector<std::string> whys_;  // each once
  std::vector<Box> occupied_;
  std::map<std::string, std::size_t> families_;
  Plot plot_{.left = kLeft,
             .top = kTop,
             .right = kRight,
             .bottom = 0,  // as the list is long
             .style = {.grid = kGrid,
                       .mark = kGrid,
                       .mark_all_over = true,
                       .beside = "text-anchor=\"end\"",
                       .below = "text-anchor=\"middle\""}};
};

}  // namespace

std::string roofline_svg(const Roofline& roofline) {
  return Picture(roofline).draw();
}

}  // namespace quire

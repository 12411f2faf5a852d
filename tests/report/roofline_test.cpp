// The roofline picture: well-formed, complete, to scale, and its numbers apart from each other.
#include "report/roofline.h"

#include <cmath>
#include <string>
#include <vector>

#include "bench/report.h"
#include "tests/support/catch.h"
#include "tests/support/xml.h"

using quire::BenchEntry;
using quire::BenchReport;
using quire::Roofline;
using quire::roofline_svg;
using quire::RooflinePoint;
using quire::test::xml_attribute;
using quire::test::xml_fault;

namespace {

/// The start tags of `svg` that hold `mark`.
std::vector<std::string> tags_with(const std::string& svg, const std::string& mark) {
  std::vector<std::string> tags;
  for (std::size_t at = 0; (at = svg.find('<', at)) != std::string::npos; ++at) {
    const std::string tag = svg.substr(at, svg.find('>', at) - at + 1);
    if (tag.find(mark) != std::string::npos) tags.push_back(tag);
  }
  return tags;
}

double number(const std::string& tag, const char* name) {
  return std::stod(xml_attribute(tag, name));
}

// 100 GB/s and 10 TFLOP/s meet at 100 flops a byte.
Roofline machine(std::vector<RooflinePoint> points) {
  return {.title = "a & b <c> \"d\"",
          .bytes_per_second = 1e11,
          .flops_per_second = 1e13,
          .points = std::move(points)};
}

}  // namespace

TEST_CASE("the look at XML sees faults") {
  CHECK(xml_fault("<a b=\"1\"><c/>&amp; text</a>\n") == "");
  CHECK(xml_fault("") != "");
  CHECK(xml_fault("<a>") != "");
  CHECK(xml_fault("<a></b>") != "");
  CHECK(xml_fault("<a/><b/>") != "");
  CHECK(xml_fault("<a b=1/>") != "");
  CHECK(xml_fault("<a b=\"<\"/>") != "");
  CHECK(xml_fault("<a>&</a>") != "");
  CHECK(xml_fault("<a>1 > 0</a>") != "");
}

TEST_CASE("a roofline names its points, escaped, and its ceilings") {
  const std::string svg = roofline_svg(
      machine({{.name = "x<y>&z", .intensity = 1, .flops_per_second = 5e10, .note = "50 %"},
               {.name = "second", .intensity = 1000, .flops_per_second = 9e12, .hollow = true},
               {.name = "nothing to divide by"}}));
  CHECK(xml_fault(svg) == "");
  CHECK(svg.find("a &amp; b &lt;c&gt; &quot;d&quot;") != std::string::npos);
  CHECK(svg.find(">x&lt;y&gt;&amp;z<") != std::string::npos);
  CHECK(svg.find(">50 %<") != std::string::npos);
  CHECK(svg.find(">memory 100 GB/s<") != std::string::npos);
  CHECK(svg.find(">arithmetic 10 TFLOP/s<") != std::string::npos);
  CHECK(svg.find("nothing to divide by") == std::string::npos);
  const std::vector<std::string> points = tags_with(svg, "class=\"point\"");
  REQUIRE(points.size() == 2);
  CHECK(xml_attribute(points[0], "fill") != "white");
  CHECK(xml_attribute(points[1], "fill") == "white");
}

TEST_CASE("a roofline without points is a picture of the ceilings") {
  const std::string svg = roofline_svg(machine({}));
  CHECK(xml_fault(svg) == "");
  CHECK(tags_with(svg, "class=\"memory\"").size() == 1);
}

TEST_CASE("points at the ceilings lie on their lines") {
  // Coordinates are written with two decimals.
  const double bound = 0.02;
  const std::string svg =
      roofline_svg(machine({{.name = "memory", .intensity = 0.3, .flops_per_second = 3e10},
                            {.name = "ridge", .intensity = 100, .flops_per_second = 1e13},
                            {.name = "compute", .intensity = 3000, .flops_per_second = 1e13},
                            {.name = "below", .intensity = 0.3, .flops_per_second = 3e9}}));
  const std::string memory = tags_with(svg, "class=\"memory\"").at(0);
  const std::string compute = tags_with(svg, "class=\"compute\"").at(0);
  const std::vector<std::string> points = tags_with(svg, "class=\"point\"");
  REQUIRE(points.size() == 4);
  const double slope =
      (number(memory, "y2") - number(memory, "y1")) / (number(memory, "x2") - number(memory, "x1"));
  CHECK(slope < 0);  // y grows downwards
  const double at_point =
      number(memory, "y1") + slope * (number(points[0], "cx") - number(memory, "x1"));
  CHECK(std::abs(at_point - number(points[0], "cy")) <= bound * (1 + std::abs(slope)));
  CHECK(std::abs(number(memory, "x2") - number(points[1], "cx")) <= bound);
  CHECK(std::abs(number(memory, "y2") - number(points[1], "cy")) <= bound);
  CHECK(std::abs(number(compute, "y1") - number(points[2], "cy")) <= bound);
  CHECK(number(points[2], "cx") > number(points[1], "cx"));
  CHECK(std::abs(number(points[3], "cx") - number(points[0], "cx")) <= bound);
  CHECK(number(points[3], "cy") > number(points[0], "cy"));
}

TEST_CASE("what is above a line is marked in the list, and each reason is said once below it") {
  const std::string svg =
      roofline_svg(machine({{.name = "first",
                             .intensity = 1,
                             .flops_per_second = 2e11,
                             .note = "200 %",
                             .why = "in a cache"},
                            {.name = "second", .intensity = 1, .flops_per_second = 1e10},
                            {.name = "third",
                             .intensity = 2,
                             .flops_per_second = 3e11,
                             .note = "150 %",
                             .why = "in a cache"},
                            {.name = "fourth",
                             .intensity = 900,
                             .flops_per_second = 1.1e13,
                             .note = "110 %",
                             .why = "a reason that is so long that it needs more than one line of "
                                    "the list beside the picture"}}));
  CHECK(xml_fault(svg) == "");
  CHECK(svg.find(">200 % (a)<") != std::string::npos);
  CHECK(svg.find(">150 % (a)<") != std::string::npos);
  CHECK(svg.find(">110 % (b)<") != std::string::npos);
  CHECK(svg.find(">(a) in a cache<") != std::string::npos);
  CHECK(svg.find(">(b) a reason that is so long") != std::string::npos);
  const std::vector<std::string> whys = tags_with(svg, "class=\"why\"");
  REQUIRE(whys.size() == 3);  // one line and two
  const double height = number(tags_with(svg, "<svg").at(0), "height");
  CHECK(number(whys[2], "y") < height);
  CHECK(number(whys[2], "y") - number(whys[1], "y") == 16);
}

TEST_CASE("a report's list has one unit, and a word for all above a ceiling") {
  // 10 GB/s and 100 GFLOP/s meet at 10 flops a byte.
  const auto entry = [](const char* name, double bytes, double flops, double percent) {
    BenchEntry e;
    e.name = name;
    e.median_seconds = 1;
    e.bytes = bytes;
    e.flops = flops;
    e.bandwidth_ceiling = 1e10;
    e.flops_ceiling = 1e11;
    e.counters["percent_of_ceiling"] = percent;
    return e;
  };
  const Roofline roofline = quire::roofline_of(
      BenchReport{.context = {},
                  .entries = {entry("a/warm", 3e10, 3e9, 300), entry("b/cold", 1.2e10, 1e7, 120),
                              entry("c/cold", 1e9, 1.5e12, 1500), entry("d/warm", 1e10, 1e9, 100.4),
                              entry("e/cold", 1e9, 5e9, 50)}},
      "title");
  REQUIRE(roofline.points.size() == 5);
  CHECK(roofline.points[0].note == "3 GFLOP/s, 300%");
  CHECK(roofline.points[1].note == "0.01 GFLOP/s, 120%");
  CHECK(roofline.points[2].note == "1,500 GFLOP/s, 1500%");
  CHECK(roofline.points[3].note == "1 GFLOP/s, 100%");
  const auto says = [&](std::size_t point, const char* words) {
    return roofline.points[point].why.find(words) != std::string::npos;
  };
  CHECK(says(0, "stay in a cache"));
  CHECK(says(1, "counted from shapes"));
  CHECK(says(2, "the level line"));
  CHECK(roofline.points[3].why == "");
  CHECK(roofline.points[4].why == "");
}

TEST_CASE("the numbers of eighty points do not lie on each other") {
  std::vector<RooflinePoint> points;
  for (int i = 0; i < 80; ++i) {
    // Products crowd together, as they do.
    points.push_back({.name = "p" + std::to_string(i),
                      .intensity = i < 40 ? 200 + 0.5 * i : 0.1 * (1 + i % 9),
                      .flops_per_second = i < 40 ? 7e12 + 2e10 * i : 1e10 * (1 + i % 13)});
  }
  const std::string svg = roofline_svg(machine(std::move(points)));
  CHECK(xml_fault(svg) == "");
  const std::vector<std::string> numbers = tags_with(svg, "class=\"number\"");
  REQUIRE(numbers.size() == 80);
  int overlaps = 0;
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    for (std::size_t j = 0; j < i; ++j) {
      const double apart = number(numbers[i], "x") - number(numbers[j], "x");
      const std::size_t left = apart < 0 ? i : j;  // the one whose width matters
      // Digits are 6 by 10 pixels; coordinates have one decimal.
      overlaps += std::abs(apart) < (left < 9 ? 6 : 12) &&
                  std::abs(number(numbers[i], "y") - number(numbers[j], "y")) < 9.5;
    }
  }
  CHECK(overlaps == 0);
}

TEST_CASE("a report's entries become points under its ceilings") {
  BenchEntry cold;
  cold.name = "op/cold";
  cold.median_seconds = 2;
  cold.bytes = 4e9;
  cold.flops = 8e9;
  cold.bandwidth_ceiling = 1e10;
  cold.flops_ceiling = 1e12;
  cold.counters["percent_of_ceiling"] = 20;
  BenchEntry warm = cold;
  warm.name = "op/warm";
  warm.median_seconds = 1;
  BenchEntry other;
  other.name = "no flops";
  other.bytes = 1;
  const Roofline roofline =
      quire::roofline_of(BenchReport{.context = {}, .entries = {cold, warm, other}}, "title");
  CHECK(roofline.title == "title");
  CHECK(roofline.bytes_per_second == 1e10);
  CHECK(roofline.flops_per_second == 1e12);
  REQUIRE(roofline.points.size() == 2);
  CHECK(roofline.points[0].intensity == 2);
  CHECK(roofline.points[0].flops_per_second == 4e9);
  CHECK(roofline.points[0].note == "4 GFLOP/s, 20%");
  CHECK(roofline.points[0].why == "");
  CHECK(!roofline.points[0].hollow);
  CHECK(roofline.points[1].hollow);
}

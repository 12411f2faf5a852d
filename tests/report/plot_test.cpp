#include "report/plot.h"

#include <cmath>

#include "tests/support/catch.h"
#include "tests/support/text.h"

using namespace quire;
using namespace quire::test;

TEST_CASE("scales leave room at both ends, and are logarithmic where the values are") {
  const double nan = std::nan("");
  const PlotScale linear = PlotScale::wide({1, nan, 5});
  CHECK_FALSE(linear.logarithmic);
  CHECK(linear.at(1) == Approx(0.06));
  CHECK(linear.at(3) == Approx(0.5));
  CHECK(linear.at(5) == Approx(0.94));
  const PlotScale wide = PlotScale::wide({1, 100});
  CHECK(wide.logarithmic);
  CHECK(wide.at(1) == Approx(0.06));
  CHECK(wide.at(10) == Approx(0.5));
  CHECK_FALSE(PlotScale::wide({0, 100}).logarithmic);
  CHECK_FALSE(PlotScale::around({0, 100}, true).logarithmic);
  CHECK(PlotScale::of_list({2, 5, 10}).logarithmic);
  CHECK_FALSE(PlotScale::of_list({2, 4, 6}).logarithmic);
  for (const double only : {0.0, 7.0, nan}) CHECK(std::isfinite(PlotScale::wide({only}).at(1)));
  CHECK(PlotScale::wide({7}).at(7) == Approx(0.5));
}

TEST_CASE("decades are whole, and one is there at least") {
  const PlotScale scale = PlotScale::decades({0.3, 20, 500});
  CHECK(scale.low == Approx(0.1));
  CHECK(scale.high == Approx(1000));
  CHECK(scale.at(10) == Approx(0.5));
  CHECK(scale.ticks() == std::vector<double>{0.1, 1, 10, 100, 1000});
  CHECK(PlotScale::decades({2}).ticks() == std::vector<double>{1, 2, 5, 10});
}

TEST_CASE("what is drawn in a plot lies where its axes say") {
  Plot plot{.left = 10,
            .top = 20,
            .right = 110,
            .bottom = 220,
            .x_scale = {0, 10},
            .y_scale = {1, 100, true},
            .style = {.grid = "g", .mark = "m", .beside = "b", .below = "u", .decimals = 1}};
  plot.across(10, "ten");
  plot.below(5, "<five>");
  plot.curve({{0, 1}, {5, std::nan("")}, {10, 100}}, "c");
  plot.disc({5, 10}, 3, "d", "k", "a&b");
  CHECK(plot.svg ==
        "<line x1=\"10.00\" y1=\"120.00\" x2=\"110.00\" y2=\"120.00\" g/>\n"
        "<text x=\"2.0\" y=\"124.0\" b>ten</text>\n"
        "<line x1=\"60.00\" y1=\"220.00\" x2=\"60.00\" y2=\"224.00\" m/>\n"
        "<text x=\"60.0\" y=\"238.0\" u>&lt;five&gt;</text>\n"
        "<polyline points=\"10.0,220.0 110.0,20.0\" fill=\"none\" c/>\n"
        "<circle class=\"k\" cx=\"60.0\" cy=\"120.0\" r=\"3\" d><title>a&amp;b</title></circle>\n");
}

TEST_CASE("ticks are round, in order and inside") {
  using Ticks = std::vector<double>;
  CHECK(round_ticks(0, 1, 4) == Ticks{0, 0.2, 0.4, 0.6, 0.8, 1});
  CHECK(round_ticks(-0.3, 0.3, 3) == Ticks{-0.2, 0, 0.2});
  CHECK(round_ticks(3.77, 6.2, 4) == Ticks{4, 4.5, 5, 5.5, 6});
  CHECK(round_ticks(0, 40, 2.5) == Ticks{0, 10, 20, 30, 40});
  CHECK(log_ticks(1e-5, 1e-2) == Ticks{1e-5, 1e-4, 1e-3, 1e-2});
  CHECK(log_ticks(3e-5, 2e-3) == Ticks{1e-4, 1e-3});
  CHECK(log_ticks(1e-4, 1e-3) == Ticks{1e-4, 2e-4, 5e-4, 1e-3});
  CHECK(log_ticks(2.2, 3.3) == round_ticks(2.2, 3.3, 2));
  CHECK(log_ticks(1e-12, 1e12).size() <= 9);
}

#include "report/svg.h"

#include <fmt/format.h>

#include <cmath>

#include "base/text.h"

namespace quire {

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

std::string svg_line(double x1, double y1, double x2, double y2, const std::string& attributes) {
  return fmt::format("<line x1=\"{:.2f}\" y1=\"{:.2f}\" x2=\"{:.2f}\" y2=\"{:.2f}\" {}/>\n", x1, y1,
                     x2, y2, attributes);
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

}  // namespace quire

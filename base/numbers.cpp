#include "base/numbers.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <cstdlib>
#include <system_error>

#include "base/text.h"

namespace quire {
namespace {

template <class T>
std::string shortest(T value) {
  std::array<char, 64> text{};
  const T size = std::abs(value);
  const auto form = size == 0 || (size >= T(1e-4) && size < T(1e15)) || !std::isfinite(value)
                        ? std::chars_format::fixed
                        : std::chars_format::scientific;
  const auto [end, trouble] = std::to_chars(text.data(), text.data() + text.size(), value, form);
  return trouble == std::errc() ? std::string(text.data(), end) : std::to_string(value);
}

// Three significant digits and a unit: 999 -> "999", 1234 -> "1.23k".
std::string scaled(double value, const std::array<const char*, 5>& units) {
  std::size_t unit = 0;
  // 999.5 would be shown as 1000 of the smaller unit.
  while (std::abs(value) >= 999.5 && unit + 1 < units.size()) {
    value /= 1000;
    ++unit;
  }
  const int decimals = unit == 0                 ? 0
                       : std::abs(value) < 9.995 ? 2
                       : std::abs(value) < 99.95 ? 1
                                                 : 0;
  return fmt::format("{:.{}f}{}", value, decimals, units[unit]);
}

}  // namespace

std::string compact_number(float value) {
  return shortest(value);
}
std::string compact_number(double value) {
  return shortest(value);
}

std::string rounded_number(double value, int digits) {
  const double size = std::abs(value);
  if (size >= std::min(1000.0, std::pow(10, digits)) && size < 1e15) {
    return with_commas(std::llround(value));
  }
  return shortest(std::stod(fmt::format("{:.{}g}", value, digits)));
}

std::string fixed_number(double value, int decimals) {
  const std::string text = fmt::format("{:.{}f}", value, decimals);
  return std::abs(std::strtod(text.c_str(), nullptr)) >= 1000 && std::abs(value) < 1e15
             ? with_commas(std::llround(value))
             : text;
}

std::string human_bytes(double bytes) {
  return scaled(bytes, {" B", " kB", " MB", " GB", " TB"});
}

std::string human_count(double value) {
  if (value < 99999.5) return with_commas(std::llround(value));
  return scaled(value, {"", "k", "M", "B", "T"});
}

std::string human_duration(double seconds) {
  if (!(seconds >= 0) || seconds > 1e9) return "?";
  if (seconds >= 0.005 && seconds < 0.095) return fmt::format("{:.2f}s", seconds);
  if (seconds < 9.95) return fmt::format("{:.1f}s", seconds);
  const auto whole = std::llround(seconds);
  if (whole < 60) return fmt::format("{}s", whole);
  if (whole < 3600) return fmt::format("{}m {:02}s", whole / 60, whole % 60);
  if (whole < 86400) return fmt::format("{}h {:02}m", whole / 3600, whole % 3600 / 60);
  return fmt::format("{}d {:02}h", whole / 86400, whole % 86400 / 3600);
}

}  // namespace quire

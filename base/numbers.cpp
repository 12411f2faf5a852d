#include "base/numbers.h"

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

// A double has at most 309 digits before the point.
std::string with_decimals(double value, int decimals) {
  std::array<char, 400> text{};
  const auto [end, trouble] = std::to_chars(text.data(), text.data() + text.size(), value,
                                            std::chars_format::fixed, decimals);
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
  return with_decimals(value, decimals) + units[unit];
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
  std::array<char, 64> text{};
  const auto [end, trouble] = std::to_chars(text.data(), text.data() + text.size(), value,
                                            std::chars_format::general, digits);
  return trouble == std::errc() ? shortest(std::stod(std::string(text.data(), end)))
                                : shortest(value);
}

std::string fixed_number(double value, int decimals) {
  const std::string text = with_decimals(value, decimals);
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
  if (seconds >= 0.005 && seconds < 0.095) return with_decimals(seconds, 2) + "s";
  if (seconds < 9.95) return with_decimals(seconds, 1) + "s";
  const auto whole = std::llround(seconds);
  const auto two_digits = [](long long part) {
    return (part < 10 ? "0" : "") + std::to_string(part);
  };
  if (whole < 60) return std::to_string(whole) + "s";
  if (whole < 3600) return std::to_string(whole / 60) + "m " + two_digits(whole % 60) + "s";
  if (whole < 86400) {
    return std::to_string(whole / 3600) + "h " + two_digits(whole % 3600 / 60) + "m";
  }
  return std::to_string(whole / 86400) + "d " + two_digits(whole % 86400 / 3600) + "h";
}

}  // namespace quire

// Numbers as people read them: one style for all that is printed.
#pragma once

#include <string>

namespace quire {

/// The shortest text that reads back as the same number: "0.1", "0.0002", "5e-05", "20". Powers of
/// ten are written from below 0.0001 and from 1e15 on.
std::string compact_number(float value);
std::string compact_number(double value);
/// So many significant digits, without zeros at the end; a larger number, and one from 1,000 on, to
/// the whole: "0.0002", "4.2e-05", "23.41", "93,765".
std::string rounded_number(double value, int digits = 2);
/// So many decimals, for columns of a table; from 1,000 on none, with commas: "4.3137", "93,596".
std::string fixed_number(double value, int decimals);
std::string human_bytes(double bytes);       ///< "12.3 MB", powers of 1000
std::string human_duration(double seconds);  ///< "0.02s", "8.3s", "2m 05s", "1h 02m"
std::string human_count(double value);       ///< "124M", "1.56B", "4,096"

}  // namespace quire

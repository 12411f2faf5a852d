// Small questions about text.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace quire {

/// Whether all of it is well-formed UTF-8 (The Unicode Standard, table 3-7): no overlong forms, no
/// surrogates, nothing above U+10FFFF.
bool is_utf8(std::string_view text);

/// The text with U+FFFD for each maximal part that is not UTF-8, as Python's errors="replace" has
/// it.
std::string replace_invalid_utf8(std::string_view text);

/// 4590 as "4,590".
std::string with_commas(std::uint64_t number);

}  // namespace quire

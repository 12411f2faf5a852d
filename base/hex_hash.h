// A short name for a text, and a checksum against damage (not against intent).
#pragma once

#include <string>
#include <string_view>

namespace quire {

/// FNV-1a of 64 bits (Fowler, Noll and Vo) as 16 hexadecimal digits.
std::string hex_hash(std::string_view text);

}  // namespace quire

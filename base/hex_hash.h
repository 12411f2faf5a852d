// A short name for a text, and a checksum against damage (not against intent).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace quire {

/// FNV-1a of 64 bits (Fowler, Noll and Vo) as 16 hexadecimal digits.
inline std::string hex_hash(std::string_view text) {
  std::uint64_t hash = 0xcbf29ce484222325u;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  std::string digits(16, '0');
  for (std::size_t i = digits.size(); i-- > 0; hash /= 16)
    digits[i] = "0123456789abcdef"[hash % 16];
  return digits;
}

}  // namespace quire

#include "base/hex_hash.h"

#include <cstddef>
#include <cstdint>

namespace quire {

std::string hex_hash(std::string_view text) {
  std::uint64_t hash = 0xcbf29ce484222325u;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  std::string digits(16, '0');
  for (std::size_t i = digits.size(); i-- > 0; hash /= 16) {
    digits[i] = "0123456789abcdef"[hash % 16];
  }
  return digits;
}

}  // namespace quire

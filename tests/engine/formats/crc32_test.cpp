#include "engine/formats/crc32.h"

#include <string_view>

#include "tests/support/catch.h"

namespace quire {
namespace {

std::uint32_t sum_of(std::string_view text) {
  return crc32(std::as_bytes(std::span(text)));
}

}  // namespace

TEST_CASE("CRC-32 is that of zip archives, whole and joined") {
  CHECK(sum_of("") == 0);
  CHECK(sum_of("123456789") == 0xCBF43926u);  // the check value of the standard
  const std::string_view text = "The quick brown fox jumps over the lazy dog";
  CHECK(sum_of(text) == 0x414FA339u);
  for (std::size_t cut = 0; cut <= text.size(); ++cut) {
    INFO(cut);
    CHECK(joined_crc32(sum_of(text.substr(0, cut)), sum_of(text.substr(cut)), text.size() - cut) ==
          0x414FA339u);
  }
}

}  // namespace quire

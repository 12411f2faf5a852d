// All that an Unpacker makes of a packed text.
#pragma once

#include <string>
#include <string_view>

#include "corpus/decompress.h"

namespace quire::test {

inline std::string unpacked(std::string_view packed, Compression compression,
                            const std::string& name) {
  std::string text;
  Unpacker unpacker(compression, name);
  unpacker.add(packed, [&](std::string_view part) { text += part; });
  unpacker.finish();
  return text;
}

}  // namespace quire::test

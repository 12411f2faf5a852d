// Things in a row that are shared out.
#pragma once

#include <cstdint>

namespace quire {

/// [begin, end) of `count` things in a row that one of `size` ranks takes: as equal as can be.
struct Share {
  std::int64_t begin, end;
};
constexpr Share share_of(std::int64_t count, int rank, int size) {
  return {count * rank / size, count * (rank + 1) / size};
}

}  // namespace quire

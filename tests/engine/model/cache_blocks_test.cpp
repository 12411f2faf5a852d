// Whose the blocks of a cache are, and that there are always enough.
#include "engine/model/cache_blocks.h"

#include <algorithm>
#include <set>

#include "base/random.h"
#include "kernels/ops.h"
#include "tests/support/catch.h"

using namespace quire;

TEST_CASE("rows with a common past share its full blocks and have the rest alone") {
  constexpr int kSlots = 2 * kCacheBlock + 10;
  CacheBlocks blocks(3, kSlots);
  CHECK(blocks.in_use() == 0);
  blocks.reserve(0, kCacheBlock + 1);
  CHECK(blocks.in_use() == 2);
  blocks.share(1, 0, kCacheBlock + 1);
  REQUIRE(blocks[1].size() == 2);
  CHECK(blocks[1][0] == blocks[0][0]);
  CHECK(blocks[1][1] != blocks[0][1]);
  CHECK(blocks.in_use() == 3);
  blocks.reserve(0, kSlots);
  blocks.share(2, 0, kSlots);  // what ends a row is no whole block
  REQUIRE(blocks[2].size() == 3);
  CHECK(std::ranges::equal(blocks[2].first(2), blocks[0].first(2)));
  CHECK(blocks[2][2] != blocks[0][2]);
  CHECK(blocks.in_use() == 3);
  blocks.share(2, 1, kCacheBlock);
  CHECK(blocks[2].size() == 1);
  CHECK_THROWS(blocks.reserve(3, 1));

  std::vector<int> order = {0, 1, 2};
  do {
    CacheBlocks all(3, kSlots);
    all.reserve(0, kSlots);
    all.share(1, 0, kSlots);
    all.share(2, 1, kCacheBlock);
    for (const int row : order) {
      CHECK(all.in_use() > 0);
      all.clear(row);
    }
    CHECK(all.in_use() == 0);
  } while (std::ranges::next_permutation(order).found);
}

TEST_CASE("whatever rows do they keep what they wrote, in rows·slots positions") {
  for (const int slots : {40, 3 * kCacheBlock, 3 * kCacheBlock + 20}) {
    constexpr int kRows = 4;
    CacheBlocks blocks(kRows, slots);
    std::vector<int> memory(static_cast<std::size_t>(kRows * slots));
    std::vector<std::vector<int>> held(kRows);
    const auto at = [&](int row, int slot) -> int& {
      return memory.at(static_cast<std::size_t>(
          blocks[row][static_cast<std::size_t>(slot / kCacheBlock)] + slot % kCacheBlock));
    };
    int written = 0;
    for (unsigned step = 0; step < 3000; ++step) {
      const auto draw = [&](unsigned stream, int limit) {
        return static_cast<int>(random_bits({9, stream}, step) % static_cast<unsigned>(limit));
      };
      const int row = draw(1, kRows), other = (row + 1 + draw(2, kRows - 1)) % kRows;
      std::vector<int>& own = held[static_cast<std::size_t>(row)];
      const int used = static_cast<int>(own.size());
      switch (draw(3, 8)) {
        case 0:
          blocks.clear(row);
          own.clear();
          break;
        case 1:
        case 2: {
          blocks.share(other, row, used);
          held[static_cast<std::size_t>(other)] = own;
          for (int slot = used / kCacheBlock * kCacheBlock; slot < used; ++slot) {
            at(other, slot) = at(row, slot);
          }
          break;
        }
        default: {
          const int end = std::min(slots, used + 1 + draw(4, 90));
          blocks.reserve(row, end);
          for (int slot = used; slot < end; ++slot) {
            own.push_back(++written);
            at(row, slot) = written;
          }
        }
      }
      bool intact = true;
      for (int r = 0; r < kRows; ++r) {
        for (int slot = 0; slot < std::ssize(held[static_cast<std::size_t>(r)]); ++slot) {
          intact &=
              at(r, slot) == held[static_cast<std::size_t>(r)][static_cast<std::size_t>(slot)];
        }
      }
      REQUIRE(intact);
    }
    for (int row = 0; row < kRows; ++row) blocks.clear(row);
    CHECK(blocks.in_use() == 0);
  }
}

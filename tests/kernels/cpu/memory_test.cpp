// Where the CPU's large blocks come from.
#include "kernels/cpu/memory.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <vector>

#if defined(__linux__)
#include <sys/mman.h>
#include <unistd.h>
#endif

#include "tests/support/catch.h"

namespace quire::cpu {
namespace {

#if defined(__linux__)
// Pages that were touched before the kernel is told that they may be huge stay small: decoding eight
// rows took 6 % longer after a block had come out of memory that the heap had used.
TEST_CASE("memory: a large block has no pages that the heap used before") {
  constexpr std::size_t kBlock = std::size_t{8} << 20;
  // glibc takes blocks of up to 32 MB from the heap once one of that size was given back.
  void* volatile largest = std::malloc(4 * kBlock - (std::size_t{64} << 10));
  std::free(largest);
  void* volatile used = std::malloc(3 * kBlock);
  REQUIRE(used != nullptr);
  std::memset(used, 1, 3 * kBlock);
  std::free(used);

  void* const block = allocate_aligned(kBlock);
  std::vector<unsigned char> resident(kBlock / static_cast<std::size_t>(sysconf(_SC_PAGESIZE)));
  REQUIRE(mincore(block, kBlock, resident.data()) == 0);
  const auto touched = std::count_if(resident.begin(), resident.end(),
                                     [](unsigned char page) { return (page & 1) != 0; });
  release_aligned(block);
  CHECK(touched == 0);
}
#endif

}  // namespace
}  // namespace quire::cpu

// The tiles of AMX in plain C++ (kernels/cpu/tile_arithmetic.h), for the kernel of kernels/cpu/amx-inl.h
// on processors that have none.
#pragma once

#include <atomic>
#include <cstdint>
#include <vector>

#include "kernels/cpu/stream.h"
#include "tests/support/devices.h"

namespace quire::test {

/// What an emulated processor does wrong.
enum class TileFault : std::uint8_t {
  none,
  adds_in_turn,      ///< c + even + odd, from left to right
  one_chain,         ///< over all k
  keeps_subnormals,  ///< of results
  drops_last_row,    ///< of a product
};

/// Of this thread, as AMX's are. Throws std::logic_error where a processor would raise an exception:
/// tiles that are not configured, or one for two operands.
struct EmulatedTiles {
  static void configure();
  static void release();
  static void zero(int to);
  static void load(int to, const void* from, std::int64_t stride);
  static void store(int from, float* to, std::int64_t stride);
  static void add_product(int sum, int a, int b);

  template <int kTo>
  static void zero() {
    zero(kTo);
  }
  template <int kTo>
  static void load(const void* from, std::int64_t stride) {
    load(kTo, from, stride);
  }
  template <int kFrom>
  static void store(float* to, std::int64_t stride) {
    store(kFrom, to, stride);
  }
  template <int kSum, int kA, int kB>
  static void add_product() {
    add_product(kSum, kA, kB);
  }

  static inline std::atomic<TileFault> fault{TileFault::none};
  static inline std::atomic<std::int64_t> products{0};  ///< so far, of all threads
};

/// The kernel of AMX by those. It packs by AVX-512 BF16: only where why_no_bf16() is empty.
cpu::PackedFormat emulated_tile_format();

/// The CPU backend with 1, 2 and 3 threads whose products in bfloat16 are by those.
const std::vector<TestDevice>& cpu_with_emulated_tiles();

}  // namespace quire::test

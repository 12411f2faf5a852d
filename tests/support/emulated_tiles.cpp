#include "tests/support/emulated_tiles.h"

#include <cstring>
#include <stdexcept>

#include "kernels/cpu/device.h"
#include "kernels/cpu/tile_arithmetic.h"
#if defined(__x86_64__) && !defined(HWY_COMPILE_ONLY_SCALAR)
#include "kernels/cpu/amx-inl.h"
#endif

namespace quire::test {
namespace {

constexpr int kSide = 16;

struct Tile {
  std::uint32_t words[kSide][kSide];
};
struct Tiles {
  bool configured = false;
  Tile tiles[8];
};
thread_local Tiles tiles_of_thread;

void expect(bool holds, const char* what) {
  if (!holds) throw std::logic_error(what);
}

Tile& tile_of(int number) {
  expect(tiles_of_thread.configured, "tiles are not configured");
  return tiles_of_thread.tiles[number];
}

float widened(std::uint32_t word, bool odd) {
  return cpu::tile::widened(static_cast<std::uint16_t>(odd ? word >> 16 : word & 0xffff));
}

float multiply_add(float a, float b, float c, TileFault fault) {
  return fault == TileFault::keeps_subnormals
             ? static_cast<float>(static_cast<double>(a) * static_cast<double>(b) +
                                  static_cast<double>(c))
             : cpu::tile::multiply_add(a, b, c);
}

float add(float a, float b, TileFault fault) {
  return fault == TileFault::keeps_subnormals ? a + b : cpu::tile::add(a, b);
}

}  // namespace

void EmulatedTiles::configure() {
  expect(!tiles_of_thread.configured, "tiles are configured twice");
  tiles_of_thread.configured = true;
  std::memset(tiles_of_thread.tiles, 0xff, sizeof(tiles_of_thread.tiles));  // NaN
}

void EmulatedTiles::release() {
  expect(tiles_of_thread.configured, "tiles are released that are not configured");
  tiles_of_thread.configured = false;
}

void EmulatedTiles::zero(int to) {
  tile_of(to) = {};
}

void EmulatedTiles::load(int to, const void* from, std::int64_t stride) {
  for (int row = 0; row < kSide; ++row) {
    std::memcpy(tile_of(to).words[row], static_cast<const std::byte*>(from) + row * stride,
                sizeof(Tile) / kSide);
  }
}

void EmulatedTiles::store(int from, float* to, std::int64_t stride) {
  for (int row = 0; row < kSide; ++row) {
    std::memcpy(reinterpret_cast<std::byte*>(to) + row * stride, tile_of(from).words[row],
                sizeof(Tile) / kSide);
  }
}

void EmulatedTiles::add_product(int sum, int a, int b) {
  expect(sum != a && sum != b && a != b, "one tile is two operands");
  products.fetch_add(1, std::memory_order_relaxed);
  const TileFault wrong = fault.load(std::memory_order_relaxed);
  const Tile &rows = tile_of(a), &columns = tile_of(b);
  Tile& sums = tile_of(sum);
  const int last = wrong == TileFault::drops_last_row ? kSide - 1 : kSide;
  for (int m = 0; m < last; ++m) {
    float even[kSide] = {}, odd[kSide] = {};
    for (int k = 0; k < kSide; ++k) {
      const float a_even = widened(rows.words[m][k], false),
                  a_odd = widened(rows.words[m][k], true);
      for (int n = 0; n < kSide; ++n) {
        const std::uint32_t word = columns.words[k][n];
        even[n] = multiply_add(a_even, widened(word, false), even[n], wrong);
        float& second = wrong == TileFault::one_chain ? even[n] : odd[n];
        second = multiply_add(a_odd, widened(word, true), second, wrong);
      }
    }
    for (int n = 0; n < kSide; ++n) {
      float c = 0.0f;
      std::memcpy(&c, &sums.words[m][n], sizeof(c));
      c = wrong == TileFault::adds_in_turn ? add(add(c, even[n], wrong), odd[n], wrong)
                                           : add(c, add(even[n], odd[n], wrong), wrong);
      std::memcpy(&sums.words[m][n], &c, sizeof(c));
    }
  }
}

cpu::PackedFormat emulated_tile_format() {
#if defined(__x86_64__) && !defined(HWY_COMPILE_ONLY_SCALAR)
  return cpu::amx::format_by<EmulatedTiles>();
#else
  throw std::logic_error("the kernel of AMX is for x86-64");
#endif
}

const std::vector<TestDevice>& cpu_with_emulated_tiles() {
  static const cpu::Bf16Formats formats = {emulated_tile_format(), cpu::amx_streams()};
  static cpu::CpuDevice one(1, formats), two(2, formats), three(3, formats);
  static const std::vector<TestDevice> devices = {{"emulated tiles, 1 thread", one},
                                                  {"emulated tiles, 2 threads", two},
                                                  {"emulated tiles, 3 threads", three}};
  return devices;
}

}  // namespace quire::test

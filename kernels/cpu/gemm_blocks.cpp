// A panel of the weight is 16 columns of c: a vector of 32-bit sums with 16 lanes, two with 8. Its
// codes are widened to 16 bits as they are read, for as many rows of x as registers hold sums: for 8
// rows that is 1 instruction beside 16, so that no widened copy is kept, and few rows and many go
// the same way.
#include "kernels/cpu/gemm_blocks.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <utility>

#include "kernels/quantised.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/gemm_blocks.cpp"
#include "hwy/cache_control.h"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "kernels/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace quire::cpu {
namespace HWY_NAMESPACE {

constexpr int64_t kElements = 32;  // of a block
constexpr int64_t kColumns = 16;   // of a panel

// ---- x

using I32 = hn::RebindToSigned<F32>;
using Ints = hn::Vec<I32>;

// Below it a block counts as zero: 32767/max|x| would not be finite from 2^-113 on.
constexpr float kLeast = 0x1p-100f;

void RoundRow(const float* x, const RoundedRows& to, int64_t row) {
  const I32 di;
  const int64_t group = row / kGroupRows, in_group = row % kGroupRows;
  for (int64_t block = 0; block < to.blocks; ++block, x += kElements) {
    const int64_t at = (group * to.blocks + block) * kGroupRows + in_group;
    // As integers, magnitudes keep their order, with NaN above infinity.
    Ints largest = hn::Zero(di);
    for (int64_t i = 0; i < kElements; i += kLanes) {
      largest = hn::Max(largest, hn::BitCast(di, hn::Abs(load(x + i))));
    }
    const float most = std::bit_cast<float>(hn::GetLane(hn::MaxOfLanes(di, largest)));
    const bool zero_block = most < kLeast;
    const bool finite = std::bit_cast<std::int32_t>(most) < 0x7f800000;
    const Vec factor = set(zero_block || !finite ? 0.0f : 32767.0f / most);
    std::int16_t* codes = to.codes + at * kElements;
    Ints sum = hn::Zero(di);
    for (int64_t i = 0; i < kElements; i += kLanes) {
      const Ints code = finite ? hn::NearestInt(hn::Mul(load(x + i), factor)) : hn::Zero(di);
      sum = hn::Add(sum, code);
      const hn::Rebind<std::int16_t, I32> d16;
      hn::StoreU(hn::DemoteTo(d16, code), d16, codes + i);
    }
    to.scales[at] =
        finite ? (zero_block ? 0.0f : most / 32767.0f) : std::numeric_limits<float>::quiet_NaN();
    to.offsets[at] = -8 * hn::GetLane(hn::SumOfLanes(di, sum));
  }
}

// ---- the tile

/// Codes and scales of the first of a tile's rows, all of which are of one group.
struct RowsOfX {
  const std::int16_t* codes;
  const float* scales;
  const std::int32_t* offsets;
};

constexpr int64_t block_bytes(WeightFormat format) {
  return entry_of(format).block_bytes * kColumns;
}

#if HWY_TARGET != HWY_SCALAR

constexpr int64_t kVectors = kColumns / kLanes;  // of a panel
// Sums of 8 rows take 8 of 32 registers with 16 lanes, and those in float as many; of 4 rows with 8
// lanes, or of 2 with 4, they are 8 of 16, and the compiler keeps those in float in memory.
constexpr int kTileRows = HWY_TARGET <= HWY_AVX3 ? 8 : kLanes == 8 ? 4 : 2;

using I16 = hn::Repartition<std::int16_t, F32>;
using Pairs = hn::Vec<I16>;

/// Neighbours of k in 16 bits each, for a vector of columns.
HWY_INLINE Pairs load_codes(const std::byte* from) {
  const hn::Rebind<std::int8_t, I16> d;
  return hn::PromoteTo(I16(), hn::LoadU(d, reinterpret_cast<const std::int8_t*>(from)));
}
/// The same of k (low bits) and of k + 16 (high bits).
HWY_INLINE void load_codes(const std::byte* from, Pairs& low, Pairs& high) {
  const hn::Rebind<std::uint8_t, I16> d;
  const hn::RebindToUnsigned<I16> d16;
  const auto both = hn::PromoteTo(d16, hn::LoadU(d, reinterpret_cast<const std::uint8_t*>(from)));
  low = hn::BitCast(I16(), hn::And(both, hn::Set(d16, 15)));
  high = hn::BitCast(I16(), hn::ShiftRight<4>(both));
}

/// Two neighbours of k of a row of x, for every column.
HWY_INLINE Pairs broadcast_pair(const std::int16_t* codes) {
  std::int32_t pair;
  std::memcpy(&pair, codes, sizeof pair);
  return hn::BitCast(I16(), hn::Set(I32(), pair));
}

// VPDPWSSD of AVX-512 VNNI multiplies, adds pairs and adds to the sum at once, and reads the pair of x
// from memory: 1 instruction instead of 3. But a sum waits 4 cycles for it, so it is for 4 rows and
// more. Highway has it with a target of its own, which would double what is compiled; as the integers
// are the same either way, one instruction in a target that lacks it is enough.
#if HWY_TARGET == HWY_AVX3
constexpr int kRowsForDot = 4;

HWY_INLINE void add_dot(Ints& sum, Pairs w, const std::int16_t* codes) {
  typedef std::int32_t __attribute__((may_alias)) Pair;
  asm("vpdpwssd %2%{1to16%}, %1, %0"
      : "+v"(sum.raw)
      : "v"(w.raw), "m"(*reinterpret_cast<const Pair*>(codes)));
}
bool has_dot() {
  static const bool has = __builtin_cpu_supports("avx512vnni") != 0;
  return has;
}
#else
constexpr int kRowsForDot = kTileRows + 1;
HWY_INLINE void add_dot(Ints&, Pairs, const std::int16_t*) {}
constexpr bool has_dot() {
  return false;
}
#endif

/// A block's sums of the products of kRows rows of x with a panel's columns.
template <WeightFormat kFormat, int kRows, bool kDot>
HWY_INLINE void AddBlock(const std::byte* codes, const std::int16_t* x,
                         Ints (&sums)[kRows][kVectors]) {
  constexpr int64_t kPairBytes = 2 * kColumns;
  Ints rest[kRows][kVectors];  // the other half of the sums, where a machine has them in two
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) sums[r][v] = rest[r][v] = hn::Zero(I32());
  }
#pragma GCC unroll 1
  for (int64_t pair = 0; pair < (kFormat == WeightFormat::q8_0 ? 16 : 8); ++pair) {
    Pairs low[kVectors], high[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      const std::byte* from = codes + pair * kPairBytes + v * 2 * kLanes;
      if constexpr (kFormat == WeightFormat::q8_0) {
        low[v] = load_codes(from);
      } else {
        load_codes(from, low[v], high[v]);
      }
    }
    const auto add = [&](const Pairs(&w)[kVectors], const std::int16_t* of_x,
                         int r) QUIRE_INLINE_LAMBDA {
      if constexpr (kDot) return add_dot(sums[r][0], w[0], of_x);
      const Pairs both = broadcast_pair(of_x);
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) {
        sums[r][v] = hn::ReorderWidenMulAccumulate(I32(), w[v], both, sums[r][v], rest[r][v]);
      }
    };
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const std::int16_t* row = x + r * kElements + 2 * pair;
      add(low, row, r);
      if constexpr (kFormat == WeightFormat::q4_0) add(high, row + 16, r);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      sums[r][v] = hn::RearrangeToOddPlusEven(sums[r][v], rest[r][v]);
    }
  }
}

/// c [kRows, N] at the panel's first column, of which there are `columns`.
template <WeightFormat kFormat, int kRows, bool kDot>
void Tile(const std::byte* panel, RowsOfX x, int64_t blocks, const float* bias, int64_t columns,
          float* c, int64_t N) {
  Vec sums[kRows][kVectors];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) sums[r][v] = zero();
  }
  for (int64_t block = 0; block < blocks; ++block) {
    Ints of_block[kRows][kVectors];
    AddBlock<kFormat, kRows, kDot>(panel + 2 * kColumns, x.codes, of_block);
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      const Vec scale = load(reinterpret_cast<const Half*>(panel) + v * kLanes);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        if constexpr (kFormat == WeightFormat::q4_0) {
          of_block[r][v] = hn::Add(of_block[r][v], hn::Set(I32(), x.offsets[r]));
        }
        sums[r][v] = hn::MulAdd(hn::ConvertTo(F32(), of_block[r][v]),
                                hn::Mul(scale, set(x.scales[r])), sums[r][v]);
      }
    }
    panel += block_bytes(kFormat);
    x = {x.codes + kGroupRows * kElements, x.scales + kGroupRows, x.offsets + kGroupRows};
  }
#pragma GCC unroll 4
  for (int v = 0; v < kVectors; ++v) {
    const int64_t lanes = columns - v * kLanes;
    if (lanes <= 0) return;
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const Vec sum =
          bias != nullptr ? hn::Add(sums[r][v], load(bias + v * kLanes, lanes)) : sums[r][v];
      store(sum, c + r * N + v * kLanes, lanes);
    }
  }
}

#else

constexpr int kTileRows = 1;
constexpr int kRowsForDot = 2;
constexpr bool has_dot() {
  return false;
}

template <WeightFormat kFormat, int kRows, bool kDot>
void Tile(const std::byte* panel, RowsOfX x, int64_t blocks, const float* bias, int64_t columns,
          float* c, int64_t) {
  const auto* bytes = reinterpret_cast<const std::uint8_t*>(panel);
  for (int64_t n = 0; n < columns; ++n) {
    Vec sum = zero();
    for (int64_t block = 0; block < blocks; ++block) {
      const std::uint8_t* at = bytes + block * block_bytes(kFormat);
      const std::int16_t* row = x.codes + block * kGroupRows * kElements;
      const int64_t k_at = block * kGroupRows;
      std::int32_t of_block = kFormat == WeightFormat::q4_0 ? x.offsets[k_at] : 0;
      for (int64_t k = 0; k < kElements; ++k) {
        if constexpr (kFormat == WeightFormat::q8_0) {
          const std::uint8_t code = at[2 * (kColumns + k / 2 * kColumns + n) + k % 2];
          of_block += row[k] * static_cast<std::int8_t>(code);
        } else {
          const std::uint8_t both = at[2 * (kColumns + k % 16 / 2 * kColumns + n) + k % 2];
          of_block += row[k] * (k < 16 ? both & 15 : both >> 4);
        }
      }
      const Vec scale = load(reinterpret_cast<const Half*>(at) + n);
      sum = hn::MulAdd(hn::ConvertTo(F32(), hn::Set(I32(), of_block)),
                       hn::Mul(scale, set(x.scales[k_at])), sum);
    }
    c[n] = hn::GetLane(bias != nullptr ? hn::Add(sum, set(bias[n])) : sum);
  }
}

#endif

using TileFunction = void (*)(const std::byte*, RowsOfX, int64_t, const float*, int64_t, float*,
                              int64_t);

template <WeightFormat kFormat, bool kDot, int... kRows>
constexpr std::array<TileFunction, kTileRows> tiles_of(std::integer_sequence<int, kRows...>) {
  return {Tile < kFormat, kRows + 1, kDot && (kRows + 1 >= kRowsForDot) > ...};
}
template <WeightFormat kFormat, bool kDot>
constexpr auto kTiles = tiles_of<kFormat, kDot>(std::make_integer_sequence<int, kTileRows>());

template <WeightFormat kFormat>
void MultiplyPanels(const BlockTile& t) {
  const int64_t N = t.weight->out(), blocks = t.x->blocks;
  const auto& tiles = has_dot() ? kTiles<kFormat, true> : kTiles<kFormat, false>;
  for (int64_t p = t.first_panel; p < t.first_panel + t.panels; ++p) {
    const std::byte* panel =
        static_cast<const std::byte*>(t.weight->data) + p * blocks * block_bytes(kFormat);
    const int64_t column = p * kColumns, columns = std::min(kColumns, N - column);
    for (int64_t row = t.first_row; row < t.first_row + t.rows; row += kTileRows) {
      const int64_t in_group = row % kGroupRows;
      const int64_t at = row / kGroupRows * blocks * kGroupRows + in_group;
      const RowsOfX x{t.x->codes + at * kElements, t.x->scales + at, t.x->offsets + at};
      const int64_t rows = std::min<int64_t>(kTileRows, t.first_row + t.rows - row);
      tiles[static_cast<size_t>(rows - 1)](panel, x, blocks,
                                           t.bias != nullptr ? t.bias + column : nullptr, columns,
                                           t.c + row * N + column, N);
    }
  }
}

void MultiplyBlocks(const BlockTile& tile) {
  tile.weight->format == WeightFormat::q8_0 ? MultiplyPanels<WeightFormat::q8_0>(tile)
                                            : MultiplyPanels<WeightFormat::q4_0>(tile);
}

}  // namespace HWY_NAMESPACE
}  // namespace quire::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace quire::cpu {

HWY_EXPORT(RoundRow);
HWY_EXPORT(MultiplyBlocks);

namespace {

std::int64_t padded(std::int64_t rows) {
  return (rows + kGroupRows - 1) / kGroupRows * kGroupRows;
}

}  // namespace

std::size_t RoundedRows::bytes(std::int64_t rows, std::int64_t blocks) {
  constexpr std::size_t kBlock = 32 * sizeof(std::int16_t) + sizeof(float) + sizeof(std::int32_t);
  return static_cast<std::size_t>(padded(rows) * blocks) * kBlock;
}

RoundedRows::RoundedRows(std::byte* memory, std::int64_t rows, std::int64_t of_row)
    : blocks(of_row),
      codes(reinterpret_cast<std::int16_t*>(memory)),
      scales(reinterpret_cast<float*>(codes + padded(rows) * blocks * 32)),
      offsets(reinterpret_cast<std::int32_t*>(scales + padded(rows) * blocks)) {}

void round_row(const float* x, const RoundedRows& to, std::int64_t row) {
  HWY_DYNAMIC_DISPATCH(RoundRow)(x, to, row);
}

void multiply_blocks(const BlockTile& tile) {
  HWY_DYNAMIC_DISPATCH(MultiplyBlocks)(tile);
}

}  // namespace quire::cpu
#endif

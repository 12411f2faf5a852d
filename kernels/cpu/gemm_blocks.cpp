// A panel of the weight is 16 columns of c: a vector of 32-bit sums with 16 lanes, two with 8. Its
// codes are widened to 16 bits as they are read, for as many rows of x as registers hold sums: for 8
// rows that is 1 instruction beside 16, so that no widened copy is kept, and few rows and many go
// the same way, but for 1 to 3 where there is AVX-512 VNNI.
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
constexpr int64_t kBlockOfX = 64;  // bytes of a block's codes

using I32 = hn::RebindToSigned<F32>;
using Ints = hn::Vec<I32>;

// ---- AVX-512 VNNI
//
// Highway has it with a target of its own, which would double what is compiled; as the integers are
// the same either way, a few instructions in a target that lacks it are enough.
//
// VPDPWSSD multiplies, adds pairs and adds to the sum at once, and reads the pair of x from memory: 1
// instruction instead of 3. But a sum waits 4 cycles for it, so it is for products of 4 rows and more.
//
// For fewer, widening the codes would take as many instructions as the products. VPDPBUSD takes them
// as bytes, four of k at once, and x as two bytes: its high one, signed, by codes that are not, and
// its low one, not signed, by codes that may be. That a code of q8_0 is 128 too large for the first
// is made up for with x's offsets. A core of Zen 4 multiplies 38 GB/s of q4_0 instead of 28, where it
// reads 32 from memory.

#if HWY_TARGET == HWY_AVX3
constexpr int kRowsForDot = 4;
bool has_dot() {
  static const bool has = __builtin_cpu_supports("avx512vnni") != 0;
  return has;
}
bool in_bytes(const RoundedRows& x) {
  return x.rows < kRowsForDot && has_dot();
}
#else
constexpr bool has_dot() {
  return false;
}
constexpr bool in_bytes(const RoundedRows&) {
  return false;
}
#endif

// ---- x

// Below it a block counts as zero: 32767/max|x| would not be finite from 2^-113 on.
constexpr float kLeast = 0x1p-100f;

/// A block's codes: in 16 bits, or 32 high bytes and then 32 low ones. Returns what is added for them:
/// -8·(their sum), as q4_0's codes stand for 8 less; -128·256·(the sum of high bytes) for q8_0.
template <WeightFormat kFormat, bool kBytes>
HWY_INLINE std::int32_t PutCodes(const float* x, Vec factor, std::byte* to) {
  const I32 di;
  Ints sum = hn::Zero(di);
  for (int64_t i = 0; i < kElements; i += kLanes) {
    const Ints code = hn::NearestInt(hn::Mul(load(x + i), factor));
    if constexpr (kBytes) {
      const hn::Rebind<std::uint8_t, I32> d8;
      const Ints high = hn::ShiftRight<8>(code);
      hn::StoreU(hn::TruncateTo(d8, hn::BitCast(hn::RebindToUnsigned<I32>(), high)), d8,
                 reinterpret_cast<std::uint8_t*>(to) + i);
      hn::StoreU(hn::TruncateTo(d8, hn::BitCast(hn::RebindToUnsigned<I32>(), code)), d8,
                 reinterpret_cast<std::uint8_t*>(to) + kElements + i);
      sum = hn::Add(sum, kFormat == WeightFormat::q8_0 ? high : code);
    } else {
      const hn::Rebind<std::int16_t, I32> d16;
      hn::StoreU(hn::DemoteTo(d16, code), d16, reinterpret_cast<std::int16_t*>(to) + i);
      if (kFormat == WeightFormat::q4_0) sum = hn::Add(sum, code);
    }
  }
  if (kFormat == WeightFormat::q8_0 && !kBytes) return 0;
  constexpr std::int32_t kOffset = kFormat == WeightFormat::q4_0 ? 8 : 128 * 256;
  return -kOffset * hn::GetLane(hn::SumOfLanes(di, sum));
}

template <WeightFormat kFormat, bool kBytes>
void RoundBlocks(const float* x, const RoundedRows& to, int64_t row) {
  const I32 di;
  int64_t at = to.first_block(row);
  for (int64_t block = 0; block < to.blocks; ++block, x += kElements, at += to.group) {
    // As integers, magnitudes keep their order, with NaN above infinity.
    Ints largest = hn::Zero(di);
    for (int64_t i = 0; i < kElements; i += kLanes) {
      largest = hn::Max(largest, hn::BitCast(di, hn::Abs(load(x + i))));
    }
    const float most = std::bit_cast<float>(hn::GetLane(hn::MaxOfLanes(di, largest)));
    std::byte* codes = to.codes + at * kBlockOfX;
    if (HWY_UNLIKELY(std::bit_cast<std::int32_t>(most) >= 0x7f800000)) {
      std::fill_n(codes, kBlockOfX, std::byte{0});
      to.offsets[at] = 0;
      to.scales[at] = std::numeric_limits<float>::quiet_NaN();
      continue;
    }
    const bool counts = most >= kLeast;
    to.offsets[at] = PutCodes<kFormat, kBytes>(x, set(counts ? 32767.0f / most : 0.0f), codes);
    to.scales[at] = counts ? most / 32767.0f : 0.0f;
  }
}

void RoundRow(const float* x, const RoundedRows& to, int64_t row) {
  const bool q8 = to.format == WeightFormat::q8_0;
  if (in_bytes(to)) {
    q8 ? RoundBlocks<WeightFormat::q8_0, true>(x, to, row)
       : RoundBlocks<WeightFormat::q4_0, true>(x, to, row);
  } else {
    q8 ? RoundBlocks<WeightFormat::q8_0, false>(x, to, row)
       : RoundBlocks<WeightFormat::q4_0, false>(x, to, row);
  }
}

// ---- the tile

/// Codes and scales of the first of a tile's rows, all of which are of one group.
struct RowsOfX {
  const std::byte* codes;
  const float* scales;
  const std::int32_t* offsets;
  int64_t group;

  void next_block() {
    codes += group * kBlockOfX;
    scales += group;
    offsets += group;
  }
};

/// What a tile's products are made with.
enum class Dot { plain, words, bytes };

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
HWY_INLINE Pairs broadcast_pair(const std::byte* codes) {
  std::int32_t pair;
  std::memcpy(&pair, codes, sizeof pair);
  return hn::BitCast(I16(), hn::Set(I32(), pair));
}

typedef std::int32_t __attribute__((may_alias)) Quad;  // two words of x, or four bytes

#if HWY_TARGET == HWY_AVX3
HWY_INLINE void add_dot(Ints& sum, Pairs w, const std::byte* codes) {
  asm("vpdpwssd %2%{1to16%}, %1, %0"
      : "+v"(sum.raw)
      : "v"(w.raw), "m"(*reinterpret_cast<const Quad*>(codes)));
}

/// Sums of 16 columns by a row's high bytes, and by its low ones.
struct ByteSums {
  __m512i high, low;
};

/// Adds the products of four k: of columns' codes, as they are and signed.
HWY_INLINE void add_quad(ByteSums& sums, __m512i codes, __m512i as_signed, const std::byte* x) {
  asm("vpdpbusd %2%{1to16%}, %1, %0"
      : "+v"(sums.high)
      : "v"(codes), "m"(*reinterpret_cast<const Quad*>(x)));
  const __m512i low = _mm512_set1_epi32(*reinterpret_cast<const Quad*>(x + kElements));
  asm("vpdpbusd %2, %1, %0" : "+v"(sums.low) : "v"(low), "v"(as_signed));
}

/// A block's sums, offsets included, of the products of kRows rows of x with a panel's columns.
template <WeightFormat kFormat, int kRows>
HWY_INLINE void AddBytes(const std::byte* codes, const RowsOfX& x, Ints (&sums)[kRows][1]) {
  // Two words of 16 columns, so that a column's lie together.
  const __m512i together =
      _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6,
                       21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
  ByteSums parts[kRows];
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) {
    parts[r] = {_mm512_setzero_si512(), _mm512_set1_epi32(x.offsets[r])};
  }
  constexpr int kQuads = kFormat == WeightFormat::q8_0 ? 8 : 4;
#pragma GCC unroll 8
  for (int q = 0; q < kQuads; ++q) {
    const __m512i w =
        _mm512_permutexvar_epi16(together, _mm512_loadu_si512(codes + q * 4 * kColumns));
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      const std::byte* of_x = x.codes + r * kBlockOfX + 4 * q;
      if constexpr (kFormat == WeightFormat::q8_0) {
        add_quad(parts[r], _mm512_xor_si512(w, _mm512_set1_epi8(-128)), w, of_x);
      } else {
        const __m512i four_bits = _mm512_set1_epi8(15);
        const __m512i low = _mm512_and_si512(w, four_bits);
        const __m512i high = _mm512_and_si512(_mm512_srli_epi16(w, 4), four_bits);
        add_quad(parts[r], low, low, of_x);
        add_quad(parts[r], high, high, of_x + kElements / 2);
      }
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) {
    sums[r][0].raw = _mm512_add_epi32(_mm512_slli_epi32(parts[r].high, 8), parts[r].low);
  }
}
#else
HWY_INLINE void add_dot(Ints&, Pairs, const std::byte*) {}
template <WeightFormat kFormat, int kRows>
HWY_INLINE void AddBytes(const std::byte*, const RowsOfX&, Ints (&)[kRows][kVectors]) {}
#endif

/// The same with codes widened to 16 bits.
template <WeightFormat kFormat, int kRows, Dot kDot>
HWY_INLINE void AddBlock(const std::byte* codes, const RowsOfX& x, Ints (&sums)[kRows][kVectors]) {
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
    const auto add = [&](const Pairs(&w)[kVectors], const std::byte* of_x,
                         int r) QUIRE_INLINE_LAMBDA {
      if constexpr (kDot == Dot::words) return add_dot(sums[r][0], w[0], of_x);
      const Pairs both = broadcast_pair(of_x);
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) {
        sums[r][v] = hn::ReorderWidenMulAccumulate(I32(), w[v], both, sums[r][v], rest[r][v]);
      }
    };
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const std::byte* row = x.codes + r * kBlockOfX + 4 * pair;
      add(low, row, r);
      if constexpr (kFormat == WeightFormat::q4_0) add(high, row + kBlockOfX / 2, r);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      sums[r][v] = hn::RearrangeToOddPlusEven(sums[r][v], rest[r][v]);
      if constexpr (kFormat == WeightFormat::q4_0) {
        sums[r][v] = hn::Add(sums[r][v], hn::Set(I32(), x.offsets[r]));
      }
    }
  }
}

/// Bytes of the weight that are asked for before they are read. With it a token of one row in int4
/// takes 1.29 ms instead of 1.39, of eight 3.9 instead of 4.6, in int8 4.5-4.8 instead of 5.0 (GPT-2 124M,
/// Zen 5, two threads).
constexpr int64_t kAhead = 4096;

/// c [kRows, N] at the panel's first column, of which there are `columns`.
template <WeightFormat kFormat, int kRows, Dot kDot>
void Tile(const std::byte* panel, RowsOfX x, int64_t blocks, const float* bias, int64_t columns,
          float* c, int64_t N) {
  Vec sums[kRows][kVectors];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) sums[r][v] = zero();
  }
  for (int64_t block = 0; block < blocks; ++block) {
    for (int64_t line = 0; line < block_bytes(kFormat); line += 64) {
      __builtin_prefetch(panel + kAhead + line, /*rw=*/0, /*locality=*/2);
    }
    Ints of_block[kRows][kVectors];
    if constexpr (kDot == Dot::bytes) {
      AddBytes<kFormat>(panel + 2 * kColumns, x, of_block);
    } else {
      AddBlock<kFormat, kRows, kDot>(panel + 2 * kColumns, x, of_block);
    }
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      const Vec scale = load(reinterpret_cast<const Half*>(panel) + v * kLanes);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        sums[r][v] = hn::MulAdd(hn::ConvertTo(F32(), of_block[r][v]),
                                hn::Mul(scale, set(x.scales[r])), sums[r][v]);
      }
    }
    panel += block_bytes(kFormat);
    x.next_block();
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

template <WeightFormat kFormat, int kRows, Dot kDot>
void Tile(const std::byte* panel, RowsOfX x, int64_t blocks, const float* bias, int64_t columns,
          float* c, int64_t) {
  const auto* bytes = reinterpret_cast<const std::uint8_t*>(panel);
  for (int64_t n = 0; n < columns; ++n) {
    Vec sum = zero();
    for (int64_t block = 0; block < blocks; ++block) {
      const std::uint8_t* at = bytes + block * block_bytes(kFormat);
      const auto* row =
          reinterpret_cast<const std::int16_t*>(x.codes + block * x.group * kBlockOfX);
      const int64_t k_at = block * x.group;
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

/// For 1 row, 2 and so on.
template <WeightFormat kFormat, Dot kDot, int... kRows>
constexpr auto tiles_of(std::integer_sequence<int, kRows...>) {
  return std::array<TileFunction, sizeof...(kRows)>{Tile<kFormat, kRows + 1, kDot>...};
}
template <WeightFormat kFormat, Dot kDot, int kMost = kTileRows>
constexpr auto kTiles = tiles_of<kFormat, kDot>(std::make_integer_sequence<int, kMost>());

template <WeightFormat kFormat>
TileFunction tile_of([[maybe_unused]] const RoundedRows& x, int64_t rows) {
  const auto i = static_cast<size_t>(rows - 1);
#if HWY_TARGET == HWY_AVX3
  if (in_bytes(x)) return kTiles<kFormat, Dot::bytes, kRowsForDot - 1>[i];
  if (has_dot()) return kTiles<kFormat, Dot::words>[i];
#endif
  return kTiles<kFormat, Dot::plain>[i];
}

template <WeightFormat kFormat>
void MultiplyPanels(const BlockTile& t) {
  const int64_t N = t.weight->out(), blocks = t.x->blocks;
  for (int64_t p = t.first_panel; p < t.first_panel + t.panels; ++p) {
    const std::byte* panel =
        static_cast<const std::byte*>(t.weight->data) + p * blocks * block_bytes(kFormat);
    const int64_t column = p * kColumns, columns = std::min(kColumns, N - column);
    for (int64_t row = t.first_row; row < t.first_row + t.rows; row += kTileRows) {
      const int64_t at = t.x->first_block(row);
      const RowsOfX x{t.x->codes + at * kBlockOfX, t.x->scales + at, t.x->offsets + at, t.x->group};
      const int64_t rows = std::min<int64_t>(kTileRows, t.first_row + t.rows - row);
      tile_of<kFormat>(*t.x, rows)(panel, x, blocks, t.bias != nullptr ? t.bias + column : nullptr,
                                   columns, t.c + row * N + column, N);
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

std::size_t RoundedRows::bytes(std::int64_t rows, std::int64_t blocks) {
  constexpr std::size_t kBlock = 64 + sizeof(float) + sizeof(std::int32_t);
  const std::int64_t group = std::min(rows, kGroupRows);
  return static_cast<std::size_t>((rows + group - 1) / group * group * blocks) * kBlock;
}

RoundedRows::RoundedRows(std::byte* memory, WeightFormat of_weight, std::int64_t most_rows,
                         std::int64_t of_row)
    : format(of_weight), rows(most_rows), blocks(of_row), group(std::min(rows, kGroupRows)) {
  const std::int64_t all = (rows + group - 1) / group * group * blocks;
  codes = memory;
  scales = reinterpret_cast<float*>(codes + all * 64);
  offsets = reinterpret_cast<std::int32_t*>(scales + all);
}

void round_row(const float* x, const RoundedRows& to, std::int64_t row) {
  HWY_DYNAMIC_DISPATCH(RoundRow)(x, to, row);
}

void multiply_blocks(const BlockTile& tile) {
  HWY_DYNAMIC_DISPATCH(MultiplyBlocks)(tile);
}

}  // namespace quire::cpu
#endif

// VDPBF16PS multiplies 32 numbers by 32 and adds them to 16 floats,
//   c[j] += a[2j]·b[2j] + a[2j+1]·b[2j+1],
// twice the flops of a fused multiply-add in as many cycles. So two neighbours of k lie in one word
// of 32 bits, and all else is as in gemm.cpp: the tile's words of A are broadcast, those of B are
// vectors of 16 columns.
//
// Everything is loaded under masks, which give zero where there is nothing to load: rows and
// columns beyond the edge, and the second half of the last word where k is odd.
#include "kernels/cpu/gemm_bf16.h"

#include <algorithm>

#if defined(__x86_64__) && !defined(HWY_COMPILE_ONLY_SCALAR)

#include <type_traits>

#include "kernels/cpu/bf16-inl.h"

namespace quire::cpu {
namespace {

using namespace bf16;

constexpr std::int64_t kBlockDepth = kBf16SumDepth;  // a panel of B takes 18 KB of level-1 cache
constexpr std::int64_t kTileRows = 8;
constexpr std::int64_t kTileVectors = 3;
constexpr std::int64_t kTileColumns = kTileVectors * kLanes;

// ---- packing

/// Lanes lie side by side in memory, neighbours of k `stride` apart: words[k/2][lane].
template <class T>
QUIRE_BF16 void pack_rows_of_k(const T* source, std::int64_t stride, std::int64_t lanes,
                               std::int64_t depth, float scale, std::uint32_t* words,
                               std::int64_t width) {
  const __mmask16 some = first_lanes(lanes);
  const __mmask16 all = first_lanes(width);
  const __m512 factor = _mm512_set1_ps(scale);
  // From 16 numbers of one k and 16 of the next: one of either in turn.
  const __m512i in_turn =
      _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6,
                       21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
  for (std::int64_t k = 0; k < depth; k += 2, source += 2 * stride, words += width) {
    if constexpr (std::is_same_v<T, BFloat16>) {  // as it lies
      const __m256i even = _mm256_maskz_loadu_epi16(some, source);
      const __m256i odd = _mm256_maskz_loadu_epi16(k + 1 < depth ? some : 0, source + stride);
      const __m512i pairs = _mm512_inserti64x4(_mm512_castsi256_si512(even), odd, 1);
      _mm512_mask_storeu_epi32(words, all, _mm512_permutexvar_epi16(in_turn, pairs));
    } else {
      const __m512 even = load(source, some);
      const __m512 odd = k + 1 < depth ? load(source + stride, some) : _mm512_setzero_ps();
      const __m512i pairs = rounded(_mm512_mul_ps(even, factor), _mm512_mul_ps(odd, factor));
      _mm512_mask_storeu_epi32(words, all, _mm512_permutexvar_epi16(in_turn, pairs));
    }
  }
}

/// Each lane is a run of k in memory, lanes `stride` apart: words[k/2][lane].
template <class T>
QUIRE_BF16 void pack_runs_of_k(const T* source, std::int64_t stride, std::int64_t lanes,
                               std::int64_t depth, float scale, std::uint32_t* words,
                               std::int64_t width) {
  const __mmask16 all = first_lanes(width);
  const __m512 factor = _mm512_set1_ps(scale);
  for (std::int64_t k = 0; k < depth; k += 2 * kLanes, source += 2 * kLanes) {
    const __mmask16 low = first_lanes(depth - k), high = first_lanes(depth - k - kLanes);
    __m512i block[16];
#pragma GCC unroll 16
    for (std::int64_t lane = 0; lane < kLanes; ++lane) {
      const T* run = source + lane * stride;
      if constexpr (std::is_same_v<T, BFloat16>) {
        block[lane] = _mm512_maskz_loadu_epi16(lane < lanes ? first_elements(depth - k) : 0, run);
      } else {
        block[lane] = lane < lanes ? rounded(_mm512_mul_ps(load(run, low), factor),
                                             _mm512_mul_ps(load(run + kLanes, high), factor))
                                   : _mm512_setzero_si512();
      }
    }
    transpose(block);
    const std::int64_t count = std::min((depth - k + 1) / 2, kLanes);
#pragma GCC unroll 16
    for (std::int64_t i = 0; i < kLanes; ++i) {
      if (i < count) _mm512_mask_storeu_epi32(words + i * width, all, block[i]);
    }
    words += kLanes * width;
  }
}

/// A panel, 16 lanes at a time. What is stored in bfloat16 has no scale but 1: it is never a.
template <class T>
QUIRE_BF16 void pack_lanes(const Operand& from, std::int64_t first_lane, std::int64_t count,
                           std::int64_t first_k, std::int64_t depth, float scale,
                           std::int64_t width, std::uint32_t* words) {
  for (std::int64_t lane = 0; lane < width; lane += kLanes) {
    const T* source = static_cast<const T*>(from.data) + (first_lane + lane) * from.row_stride +
                      first_k * from.column_stride;
    const std::int64_t lanes = std::clamp<std::int64_t>(count - lane, 0, kLanes);
    if (from.row_stride == 1) {
      pack_rows_of_k(source, from.column_stride, lanes, depth, scale, words + lane, width);
    } else {
      pack_runs_of_k(source, from.row_stride, lanes, depth, scale, words + lane, width);
    }
  }
}

void pack(const Operand& lanes, std::int64_t first_lane, std::int64_t count, std::int64_t first_k,
          std::int64_t depth, float scale, std::int64_t width, void* words) {
  dispatch(lanes.dtype, [&]<class T>() {
    pack_lanes<T>(lanes, first_lane, count, first_k, depth, scale, width,
                  static_cast<std::uint32_t*>(words));
  });
}

// ---- the register tile

struct Columns {
  __mmask16 first, second, third;
};

/// c[r][:] (+)= Σ a[word][r]·b[word][:] for r < kRows. The sum starts from zero and is then added.
template <int kRows>
QUIRE_BF16 void register_tile(const std::uint32_t* a, const std::uint32_t* b, std::int64_t words,
                              bool add, Columns columns, float* c, std::int64_t c_stride) {
  __m512 sum[kRows][kTileVectors];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
    sum[r][0] = sum[r][1] = sum[r][2] = _mm512_setzero_ps();
  }
  for (std::int64_t word = 0; word < words; ++word, a += kTileRows, b += kTileColumns) {
    const __m512bh b0 = reinterpret_cast<__m512bh>(_mm512_loadu_si512(b));
    const __m512bh b1 = reinterpret_cast<__m512bh>(_mm512_loadu_si512(b + kLanes));
    const __m512bh b2 = reinterpret_cast<__m512bh>(_mm512_loadu_si512(b + 2 * kLanes));
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const __m512bh x =
          reinterpret_cast<__m512bh>(_mm512_set1_epi32(static_cast<std::int32_t>(a[r])));
      sum[r][0] = _mm512_dpbf16_ps(sum[r][0], x, b0);
      sum[r][1] = _mm512_dpbf16_ps(sum[r][1], x, b1);
      sum[r][2] = _mm512_dpbf16_ps(sum[r][2], x, b2);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r, c += c_stride) {
    if (add) {
      sum[r][0] = _mm512_add_ps(load(c, columns.first), sum[r][0]);
      sum[r][1] = _mm512_add_ps(load(c + kLanes, columns.second), sum[r][1]);
      sum[r][2] = _mm512_add_ps(load(c + 2 * kLanes, columns.third), sum[r][2]);
    }
    _mm512_mask_storeu_ps(c, columns.first, sum[r][0]);
    _mm512_mask_storeu_ps(c + kLanes, columns.second, sum[r][1]);
    _mm512_mask_storeu_ps(c + 2 * kLanes, columns.third, sum[r][2]);
  }
}

using TileFunction = decltype(&register_tile<1>);
constexpr TileFunction kTiles[kTileRows] = {register_tile<1>, register_tile<2>, register_tile<3>,
                                            register_tile<4>, register_tile<5>, register_tile<6>,
                                            register_tile<7>, register_tile<8>};

QUIRE_BF16 void multiply(const void* a, const void* b, std::int64_t words, bool add,
                         std::int64_t rows, std::int64_t columns, float* c, std::int64_t c_stride) {
  const Columns masks = {first_lanes(columns), first_lanes(columns - kLanes),
                         first_lanes(columns - 2 * kLanes)};
  kTiles[rows - 1](static_cast<const std::uint32_t*>(a), static_cast<const std::uint32_t*>(b),
                   words, add, masks, c, c_stride);
}

// ---- b as it lies

/// c[r][:] (+)= Σ a[word][r]·b[k][:] for r < kRows and a line of columns, while what comes next is
/// asked for, so much with each word that it does not all wait at once.
template <int kRows>
QUIRE_BF16 void tile_in_place(const std::uint32_t* a, const BFloat16* b, std::int64_t stride,
                              std::int64_t depth, bool add, Elements some, float* c,
                              std::int64_t c_stride, Ahead ahead) {
  const std::int64_t lines = ahead.rows * ((ahead.bytes + 63) / 64);
  const std::int64_t lines_a_word = (2 * lines + depth - 1) / depth;
  std::int64_t at = 0;
  __m512 sum[kRows][2];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) sum[r][0] = sum[r][1] = _mm512_setzero_ps();
  for (std::int64_t k = 0; k < depth; k += 2, a += kTileRows, b += 2 * stride) {
    for (std::int64_t i = 0; i < lines_a_word && ahead.rows > 0; ++i) {
      __builtin_prefetch(ahead.first + at, 0, 2);
      at += 64;
      if (at < ahead.bytes) continue;
      at = 0;
      ahead.first += ahead.stride;
      --ahead.rows;
    }
    const __m512i even = _mm512_maskz_loadu_epi16(some, b);
    const __m512i odd = _mm512_maskz_loadu_epi16(k + 1 < depth ? some : 0, b + stride);
    const __m512bh low = pairs(_mm512_unpacklo_epi16(even, odd));
    const __m512bh high = pairs(_mm512_unpackhi_epi16(even, odd));
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const __m512bh x = broadcast(a + r);
      sum[r][0] = _mm512_dpbf16_ps(sum[r][0], x, low);
      sum[r][1] = _mm512_dpbf16_ps(sum[r][1], x, high);
    }
  }
  const auto lanes = static_cast<__mmask16>(some), beyond = static_cast<__mmask16>(some >> kLanes);
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r, c += c_stride) {
    put_in_order(sum[r][0], sum[r][1]);
    if (add) {
      sum[r][0] = _mm512_add_ps(load(c, lanes), sum[r][0]);
      sum[r][1] = _mm512_add_ps(load(c + kLanes, beyond), sum[r][1]);
    }
    _mm512_mask_storeu_ps(c, lanes, sum[r][0]);
    _mm512_mask_storeu_ps(c + kLanes, beyond, sum[r][1]);
  }
}

using InPlaceFunction = decltype(&tile_in_place<1>);
constexpr InPlaceFunction kTilesInPlace[kTileRows] = {
    tile_in_place<1>, tile_in_place<2>, tile_in_place<3>, tile_in_place<4>,
    tile_in_place<5>, tile_in_place<6>, tile_in_place<7>, tile_in_place<8>};

QUIRE_BF16 void multiply_in_place(const void* a, const void* b, std::int64_t b_stride,
                                  std::int64_t depth, bool add, std::int64_t rows,
                                  std::int64_t columns, float* c, std::int64_t c_stride,
                                  const Ahead& ahead) {
  kTilesInPlace[rows - 1](static_cast<const std::uint32_t*>(a), static_cast<const BFloat16*>(b),
                          b_stride, depth, add, first_elements(columns), c, c_stride, ahead);
}

}  // namespace

std::string why_no_bf16() {
  // The compiler's runtime also asks whether the system saves the registers.
  if (__builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
    return "";
  }
  return "this processor has no AVX-512 BF16 (AMD's have it from Zen 4 on, Intel's Xeons from "
         "Cooper Lake on)";
}

PackedFormat bf16_format() {
  return {.panel_rows = kTileRows,
          .panel_columns = kTileColumns,
          .word_depth = 2,
          .block_depth = kBlockDepth,
          .pack = pack,
          .multiply = multiply,
          .columns_in_place = kLine,
          .in_place_type = DType::bf16,
          .multiply_in_place = multiply_in_place};
}

// Latency 6 × 2 units on a Zen 5.
QUIRE_BF16 double bf16_rounds(std::int64_t rounds, float* result) {
  constexpr int kChains = 16;
  __m512 sum[kChains];
  for (__m512& chain : sum) chain = _mm512_setzero_ps();
  __m512bh x = reinterpret_cast<__m512bh>(_mm512_set1_epi16(0x3c00));  // 2^-7
  for (std::int64_t round = 0; round < rounds; ++round) {
    asm volatile("" : "+v"(x));  // or the compiler would do a round once
#pragma GCC unroll 16
    for (int i = 0; i < kChains; ++i) sum[i] = _mm512_dpbf16_ps(sum[i], x, x);
  }
  __m512 all = _mm512_setzero_ps();
  for (const __m512 chain : sum) all = _mm512_add_ps(all, chain);
  *result = _mm512_reduce_add_ps(all);
  return 4.0 * kLanes * static_cast<double>(kChains * rounds);
}

}  // namespace quire::cpu

#else

#include "base/error.h"

namespace quire::cpu {

std::string why_no_bf16() {
  return "this build has products in bfloat16 for no processor (they need x86-64 and vectors)";
}

PackedFormat bf16_format() {
  throw Error(Fault::internal, "a product in bfloat16 where the processor has none");
}

double bf16_rounds(std::int64_t, float*) {
  throw Error(Fault::internal, "a measurement of bfloat16 where the processor has none");
}

}  // namespace quire::cpu

#endif

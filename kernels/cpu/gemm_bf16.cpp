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

#include <array>
#include <type_traits>
#include <utility>

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
  for (std::int64_t k = 0; k < depth; k += 2, source += 2 * stride, words += width) {
    if constexpr (std::is_same_v<T, BFloat16>) {  // as it lies
      const __m256i even = _mm256_maskz_loadu_epi16(some, source);
      const __m256i odd = _mm256_maskz_loadu_epi16(k + 1 < depth ? some : 0, source + stride);
      _mm512_mask_storeu_epi32(words, all, in_turn(even, odd));
    } else {
      const __m512 even = load(source, some);
      const __m512 odd = k + 1 < depth ? load(source + stride, some) : _mm512_setzero_ps();
      const __m512i both = rounded(_mm512_mul_ps(even, factor), _mm512_mul_ps(odd, factor));
      _mm512_mask_storeu_epi32(words, all, in_turn(both));
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

void pack_rows(const Operand& a, std::int64_t first_row, std::int64_t count, std::int64_t first_k,
               std::int64_t depth, float scale, void* words) {
  pack_pairs(a, first_row, count, first_k, depth, scale, kTileRows, words);
}

// ---- the register tile

/// Where b's words come from: a panel, or rows of bfloat16 where they lie, which may be packed, too.
enum class From : std::uint8_t { panel, rows, rows_kept };

/// c[r][:] (+)= Σ a[word][r]·b[word][:] for r < kRows. The sum starts from zero and is then added.
/// Of rows, `stride` elements apart, there are as many columns as a panel has.
template <int kRows, From kFrom>
QUIRE_BF16 void register_tile(const std::uint32_t* a, const void* from, std::int64_t stride,
                              std::uint32_t* packed, std::int64_t depth, const TileOfC& tile,
                              Ahead ahead) {
  const std::int64_t words = (depth + 1) / 2;
  const std::int64_t lines = ahead.lines_a_step(words);
  const std::int64_t step = tile.step_of_a > 0 ? tile.step_of_a : kTileRows;
  const auto* panel = static_cast<const std::uint32_t*>(from);
  const auto* row = static_cast<const BFloat16*>(from);
  __m512 sum[kRows][kTileVectors];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
    sum[r][0] = sum[r][1] = sum[r][2] = _mm512_setzero_ps();
  }
  for (std::int64_t word = 0; word < words; ++word, a += step) {
    ahead.ask(lines);
    __m512i b[kTileVectors];
#pragma GCC unroll 3
    for (int v = 0; v < kTileVectors; ++v) {
      if constexpr (kFrom == From::panel) {
        b[v] = _mm512_loadu_si512(panel + v * kLanes);
      } else {
        const __mmask16 odd = 2 * word + 1 < depth ? 0xffff : 0;
        b[v] = in_turn(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(row + v * kLanes)),
                       _mm256_maskz_loadu_epi16(odd, row + stride + v * kLanes));
      }
      if constexpr (kFrom == From::rows_kept) _mm512_storeu_si512(packed + v * kLanes, b[v]);
    }
    panel += kTileColumns;
    row += 2 * stride;
    packed += kTileColumns;
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const __m512bh x = broadcast(a + r);
      sum[r][0] = _mm512_dpbf16_ps(sum[r][0], x, pairs(b[0]));
      sum[r][1] = _mm512_dpbf16_ps(sum[r][1], x, pairs(b[1]));
      sum[r][2] = _mm512_dpbf16_ps(sum[r][2], x, pairs(b[2]));
    }
  }
  float* c = tile.c;
  const float* before = tile.sums;
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r, c += tile.stride, before += tile.sums_stride) {
#pragma GCC unroll 3
    for (int v = 0; v < kTileVectors; ++v) {
      const __mmask16 lanes = first_lanes(tile.columns - v * kLanes);
      if (tile.sums != nullptr) {
        sum[r][v] = _mm512_add_ps(load(before + v * kLanes, lanes), sum[r][v]);
      }
      if (tile.bias != nullptr) {
        sum[r][v] = _mm512_add_ps(sum[r][v], load(tile.bias + v * kLanes, lanes));
      }
      _mm512_mask_storeu_ps(c + v * kLanes, lanes, sum[r][v]);
    }
  }
}

template <From kFrom, int... kRows>
constexpr auto tiles_of(std::integer_sequence<int, kRows...> /*rows*/) {
  return std::array{register_tile<kRows + 1, kFrom>...};
}
template <From kFrom>
constexpr auto kTiles = tiles_of<kFrom>(std::make_integer_sequence<int, kTileRows>());

void multiply_tile(From kind, const void* a, const void* b, std::int64_t stride, void* packed,
                   std::int64_t depth, const TileOfC& tile, Ahead ahead) {
  const auto row = static_cast<std::size_t>(tile.rows - 1);
  const auto multiply = kind == From::panel       ? kTiles<From::panel>[row]
                        : kind == From::rows_kept ? register_tile<kTileRows, From::rows_kept>
                                                  : kTiles<From::rows>[row];
  multiply(static_cast<const std::uint32_t*>(a), b, stride, static_cast<std::uint32_t*>(packed),
           depth, tile, ahead);
}

void multiply(const void* a, const void* b, std::int64_t depth, const TileOfC& tile, Ahead ahead) {
  multiply_tile(From::panel, a, b, 0, nullptr, depth, tile, ahead);
}

void pack_and_multiply(const void* a, const PanelOfB& panel, std::int64_t depth,
                       const TileOfC& tile, Ahead ahead) {
  const Operand& b = panel.b;
  if (b.dtype == DType::bf16 && b.column_stride == 1 && tile.columns == kTileColumns &&
      (!panel.keep || tile.rows == kTileRows)) {
    const BFloat16* rows = b.at<BFloat16>(panel.first_k, panel.first_column);
    return multiply_tile(panel.keep ? From::rows_kept : From::rows, a, rows, b.row_stride,
                         panel.packed, depth, tile, ahead);
  }
  const Operand columns{b.data, b.dtype, b.column_stride, b.row_stride};
  pack_pairs(columns, panel.first_column, tile.columns, panel.first_k, depth, 1.0f, kTileColumns,
             panel.packed);
  multiply(a, panel.packed, depth, tile, ahead);
}

static_assert(kTileColumns == kPanelColumns);

/// In pair_panels, which are multiplied in bfloat16 alone.
const void* packed_already(const PanelOfB& panel) {
  if (panel.b.panel_stride == 0) return nullptr;
  return panel.b.at<BFloat16>(panel.first_k, panel.first_column);
}

}  // namespace

void pack_pairs(const Operand& lanes, std::int64_t first_lane, std::int64_t count,
                std::int64_t first_k, std::int64_t depth, float scale, std::int64_t width,
                void* words) {
  auto* panel = static_cast<std::uint32_t*>(words);
  const std::int64_t words_of_panel = (depth + 1) / 2 * width;
  dispatch(lanes.dtype, [&]<class T>() {
    for (std::int64_t lane = 0; lane < count; lane += width, panel += words_of_panel) {
      pack_lanes<T>(lanes, first_lane + lane, std::min(width, count - lane), first_k, depth, scale,
                    width, panel);
    }
  });
}

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
          .step_depth = 2,
          .block_depth = kBlockDepth,
          .pack_rows = pack_rows,
          .multiply = multiply,
          .pack_and_multiply = pack_and_multiply,
          .packed_already = packed_already};
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

void pack_pairs(const Operand&, std::int64_t, std::int64_t, std::int64_t, std::int64_t, float,
                std::int64_t, void*) {
  throw Error(Fault::internal, "numbers packed in bfloat16 where the processor multiplies none");
}

PackedFormat bf16_format() {
  throw Error(Fault::internal, "a product in bfloat16 where the processor has none");
}

double bf16_rounds(std::int64_t, float*) {
  throw Error(Fault::internal, "a measurement of bfloat16 where the processor has none");
}

}  // namespace quire::cpu

#endif

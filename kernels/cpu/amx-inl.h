// The product of 32 rows by 32 columns in tiles, over a seam of operations on tiles: those of the
// processor (gemm_amx.cpp), or the tests' emulation of them (tests/support/emulated_tiles.h).
//
// A tile is 16 rows of 16 words of 32 bits. Four are sums, two hold rows of A, two hold B: so a step
// loads four tiles for four products, where one product alone would load two. A's are as they are
// packed: step after step, [32 rows][16 words of k]. B's rows are words of k of 16 columns, half of a
// panel [words of k][32 columns]. Edges are zeros in the panels, and tiles always whole.
#pragma once

#include "kernels/cpu/bf16-inl.h"
#include "kernels/cpu/gemm_amx.h"
#include "kernels/cpu/gemm_bf16.h"

// Besides, what GCC's and Clang's assemblers take.
#define QUIRE_AMX \
  __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,amx-tile,amx-bf16")))

namespace quire::cpu::amx {

using namespace bf16;

constexpr std::int64_t kTile = 16;                      // rows of a tile, and words of a row
constexpr std::int64_t kPanel = 2 * kTile;              // rows of A's panels, columns of B's
constexpr std::int64_t kStepDepth = 2 * kTile;          // k
constexpr std::int64_t kStepOfA = kPanel * kTile;       // words
constexpr std::int64_t kBytes = sizeof(std::uint32_t);  // of a word, and of a sum
static_assert(kAmxSumDepth % kStepDepth == 0);

constexpr std::int64_t steps_of(std::int64_t depth) {
  return (depth + kStepDepth - 1) / kStepDepth;
}

/// What LDTILECFG reads: palette 1, all eight tiles whole.
struct alignas(64) TileConfiguration {
  std::uint8_t palette = 1, start_row = 0;
  std::uint8_t reserved[14] = {};
  std::uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  std::uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
static_assert(sizeof(TileConfiguration) == 64);

// ---- packing

/// 16 rows, each a run of k in memory, `stride` apart: words[row][16] of one step.
QUIRE_BF16_INLINE void pack_runs(const float* source, std::int64_t stride, std::int64_t rows,
                                 std::int64_t depth, __m512 factor, std::uint32_t* words) {
  const __mmask16 low = first_lanes(depth), high = first_lanes(depth - kLanes);
  for (std::int64_t row = 0; row < kTile; ++row, source += stride, words += kTile) {
    const bool some = row < rows;
    _mm512_storeu_si512(words,
                        rounded(_mm512_mul_ps(load(source, some ? low : 0), factor),
                                _mm512_mul_ps(load(source + kLanes, some ? high : 0), factor)));
  }
}

/// The same of rows side by side in memory, neighbours of k `stride` apart.
QUIRE_BF16_INLINE void pack_neighbours(const float* source, std::int64_t stride, std::int64_t rows,
                                       std::int64_t depth, __m512 factor, std::uint32_t* words) {
  const __mmask16 some = first_lanes(rows);
  __m512i block[kTile];
#pragma GCC unroll 16
  for (std::int64_t i = 0; i < kTile; ++i, source += 2 * stride) {
    const __m512 even = load(source, 2 * i < depth ? some : 0);
    const __m512 odd = load(source + stride, 2 * i + 1 < depth ? some : 0);
    block[i] = in_turn(rounded(_mm512_mul_ps(even, factor), _mm512_mul_ps(odd, factor)));
  }
  transpose(block);
#pragma GCC unroll 16
  for (std::int64_t row = 0; row < kTile; ++row) {
    _mm512_storeu_si512(words + row * kTile, block[row]);
  }
}

QUIRE_BF16 inline void pack_rows(const Operand& a, std::int64_t first_row, std::int64_t count,
                                 std::int64_t first_k, std::int64_t depth, float scale,
                                 void* words) {
  const __m512 factor = _mm512_set1_ps(scale);
  auto* packed = static_cast<std::uint32_t*>(words);
  const auto* source = static_cast<const float*>(a.data);
  for (std::int64_t panel = 0; panel < count; panel += kPanel) {
    for (std::int64_t k = 0; k < depth; k += kStepDepth) {
      for (std::int64_t row = panel; row < panel + kPanel; row += kTile, packed += kTile * kTile) {
        const float* from =
            source + (first_row + row) * a.row_stride + (first_k + k) * a.column_stride;
        if (a.row_stride == 1) {
          pack_neighbours(from, a.column_stride, count - row, depth - k, factor, packed);
        } else {
          pack_runs(from, a.row_stride, count - row, depth - k, factor, packed);
        }
      }
    }
  }
}

/// B's panel, whole steps deep.
inline void pack_panel(const PanelOfB& panel, std::int64_t depth, std::int64_t columns) {
  const Operand& b = panel.b;
  pack_pairs({b.data, b.dtype, b.column_stride, b.row_stride}, panel.first_column, columns,
             panel.first_k, depth, 1.0f, kPanel, panel.packed);
  auto* words = static_cast<std::uint32_t*>(panel.packed);
  std::fill(words + (depth + 1) / 2 * kPanel, words + steps_of(depth) * kTile * kPanel, 0u);
}

// ---- the product

/// c = the sums of a tile, [32][32], and what it is added to, as far as there is c.
QUIRE_BF16_INLINE void finish_tile(const float* sums, const TileOfC& tile) {
  for (std::int64_t r = 0; r < tile.rows; ++r, sums += kPanel) {
    float* c = tile.c + r * tile.stride;
#pragma GCC unroll 2
    for (std::int64_t j = 0; j < kPanel; j += kLanes) {
      const __mmask16 lanes = first_lanes(tile.columns - j);
      __m512 sum = _mm512_load_ps(sums + j);
      if (tile.sums != nullptr) {
        sum = _mm512_add_ps(load(tile.sums + r * tile.sums_stride + j, lanes), sum);
      }
      if (tile.bias != nullptr) sum = _mm512_add_ps(sum, load(tile.bias + j, lanes));
      _mm512_mask_storeu_ps(c + j, lanes, sum);
    }
  }
}

template <class Tiles>
QUIRE_AMX void store_sums(float* c, std::int64_t stride) {
  Tiles::template store<0>(c, stride * kBytes);
  Tiles::template store<1>(c + kTile, stride * kBytes);
  Tiles::template store<2>(c + kTile * stride, stride * kBytes);
  Tiles::template store<3>(c + kTile * stride + kTile, stride * kBytes);
}

template <class Tiles>
QUIRE_AMX void multiply(const void* a, const void* b, std::int64_t depth, const TileOfC& tile,
                        Ahead ahead) {
  const auto* rows = static_cast<const std::uint32_t*>(a);
  const auto* panel = static_cast<const std::uint32_t*>(b);
  const std::int64_t steps = steps_of(depth);
  const std::int64_t lines = ahead.lines_a_step(steps);
  Tiles::template zero<0>();
  Tiles::template zero<1>();
  Tiles::template zero<2>();
  Tiles::template zero<3>();
  for (std::int64_t step = 0; step < steps; ++step) {
    ahead.ask(lines);
    Tiles::template load<4>(rows, kTile * kBytes);
    Tiles::template load<6>(panel, kPanel * kBytes);
    Tiles::template add_product<0, 4, 6>();
    Tiles::template load<7>(panel + kTile, kPanel * kBytes);
    Tiles::template add_product<1, 4, 7>();
    Tiles::template load<5>(rows + kTile * kTile, kTile * kBytes);
    Tiles::template add_product<2, 5, 6>();
    Tiles::template add_product<3, 5, 7>();
    rows += kStepOfA;
    panel += kTile * kPanel;
  }
  const bool whole = tile.rows == kPanel && tile.columns == kPanel;
  if (whole && tile.sums == nullptr && tile.bias == nullptr) {
    return store_sums<Tiles>(tile.c, tile.stride);
  }
  alignas(64) float sums[kPanel * kPanel];
  store_sums<Tiles>(sums, kPanel);
  finish_tile(sums, tile);
}

template <class Tiles>
void pack_and_multiply(const void* a, const PanelOfB& panel, std::int64_t depth,
                       const TileOfC& tile, Ahead ahead) {
  pack_panel(panel, depth, tile.columns);
  multiply<Tiles>(a, panel.packed, depth, tile, ahead);
}

/// Tiles are configured for one task and released after it, some 200 cycles beside 768 or more for
/// each 32 rows and columns of one part: between products a thread has no state of tiles, which its
/// switches would save (8 KB) and which keeps an idle core from its deepest sleep.
template <class Tiles>
PackedFormat format_by() {
  return {.panel_rows = kPanel,
          .panel_columns = kPanel,
          .word_depth = 2,
          .step_depth = kStepDepth,
          .block_depth = kAmxSumDepth,
          .pack_rows = pack_rows,
          .multiply = multiply<Tiles>,
          .pack_and_multiply = pack_and_multiply<Tiles>,
          .enter = Tiles::configure,
          .leave = Tiles::release};
}

}  // namespace quire::cpu::amx

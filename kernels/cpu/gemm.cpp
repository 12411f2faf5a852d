// The register tile holds panel_rows × 3 vectors of C. B is packed into panels as wide as the tile
// and kSumDepth deep (25 KB with 16 lanes: level-1 cache), A into panels of panel_rows.
#include "kernels/cpu/gemm.h"

#include <algorithm>
#include <array>
#include <utility>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/gemm.cpp"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "kernels/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace quire::cpu {
namespace HWY_NAMESPACE {

// 24 accumulators + 3 of B + 1 broadcast fill 32 registers; with 16 registers 12 + 3 + 1 do.
constexpr int kTileRows = HWY_TARGET <= HWY_AVX3 || HWY_TARGET == HWY_NEON ? 8 : 4;
constexpr int kTileVectors = 3;
constexpr int64_t kTileColumns = kTileVectors * kLanes;

// ---- packing: panel[k][lane], lanes beyond `valid` are zero

// Lanes lie side by side in memory, k rows apart by `stride`. All panels at once: where rows lie a
// multiple of 4 KiB apart, the first-level cache keeps too few of them for a second look.
template <int64_t kWidth, class T>
void PackCopy(const T* source, int64_t stride, int64_t valid, int64_t depth, float* panels) {
  const hn::CappedTag<float, kWidth> d;
  constexpr int64_t kStep = hn::MaxLanes(d);
  for (int64_t k = 0; k < depth; ++k, source += stride, panels += kWidth) {
    float* to = panels;
    int64_t lane = 0;
    for (; lane + kWidth <= valid; lane += kWidth, to += depth * kWidth) {
      for (int64_t j = 0; j < kWidth; j += kStep) {  // in steps that are known: 4 % of a product
        hn::StoreU(load_as(d, source + lane + j), d, to + j);
      }
    }
    if (lane >= valid) continue;
    int64_t j = 0;
    for (; lane + j + kStep <= valid; j += kStep) {
      hn::StoreU(load_as(d, source + lane + j), d, to + j);
    }
    for (; j < kWidth; ++j) to[j] = lane + j < valid ? to_float(source[lane + j]) : 0.0f;
  }
}

#if HWY_TARGET != HWY_SCALAR
// As many lanes as a vector of at most eight has, from `source` on, transposed in squares.
template <class T>
void TransposeLanes(const T* source, int64_t stride, int64_t width, int64_t depth, float* out) {
  const hn::CappedTag<float, 8> d;
  constexpr int64_t kSide = hn::MaxLanes(d);
  int64_t k = 0;
  for (; k + kSide <= depth; k += kSide, out += kSide * width) {
    transpose_square(
        d, [&](int64_t lane) QUIRE_INLINE_LAMBDA { return load_as(d, source + lane * stride + k); },
        [&](int64_t i, hn::Vec<decltype(d)> lanes)
            QUIRE_INLINE_LAMBDA { hn::StoreU(lanes, d, out + i * width); });
  }
  for (; k < depth; ++k, out += width) {
    for (int64_t lane = 0; lane < kSide; ++lane) out[lane] = to_float(source[lane * stride + k]);
  }
}
#endif

// Each lane is a run of k in memory, lanes apart by `stride`.
template <class T>
void PackTranspose(const T* source, int64_t stride, int64_t width, int64_t valid, int64_t depth,
                   float* panel) {
  int64_t lane = 0;
#if HWY_TARGET != HWY_SCALAR
  constexpr int64_t kSide = hn::MaxLanes(hn::CappedTag<float, 8>());
  for (; lane + kSide <= valid; lane += kSide) {
    TransposeLanes(source + lane * stride, stride, width, depth, panel + lane);
  }
#endif
  for (; lane < valid; ++lane) {
    for (int64_t k = 0; k < depth; ++k)
      panel[k * width + lane] = to_float(source[lane * stride + k]);
  }
  for (; lane < width; ++lane) {
    for (int64_t k = 0; k < depth; ++k) panel[k * width + lane] = 0.0f;
  }
}

void Pack(const Operand& lanes, int64_t first_lane, int64_t count, int64_t first_k, int64_t depth,
          float scale, int64_t width, void* words) {
  float* panel = static_cast<float*>(words);
  dispatch(lanes.dtype, [&]<class T>() HWY_ATTR {
    const auto* source = static_cast<const T*>(lanes.data) + first_lane * lanes.row_stride +
                         first_k * lanes.column_stride;
    if (lanes.row_stride != 1) {
      for (int64_t lane = 0; lane < count; lane += width) {
        PackTranspose(source + lane * lanes.row_stride, lanes.row_stride, width,
                      std::min(width, count - lane), depth, panel + lane * depth);
      }
    } else if (width == kTileRows) {
      PackCopy<kTileRows>(source, lanes.column_stride, count, depth, panel);
    } else {
      PackCopy<kTileColumns>(source, lanes.column_stride, count, depth, panel);
    }
  });
  if (scale == 1.0f) return;
  for_vectors((count + width - 1) / width * width * depth,
              [&](int64_t i, int64_t n) QUIRE_INLINE_LAMBDA {
                store(hn::Mul(set(scale), load(panel + i, n)), panel + i, n);
              });
}

void PackRows(const Operand& a, int64_t first_row, int64_t count, int64_t first_k, int64_t depth,
              float scale, void* words) {
  Pack(a, first_row, count, first_k, depth, scale, kTileRows, words);
}

// ---- the register tile

// Inlined, or the sums would live in memory.
template <int kRows>
HWY_INLINE void StoreTile(const Vec (&sum)[kRows][kTileVectors], const TileOfC& tile) {
  float* c = tile.c;
  const float* before = tile.sums;
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r, c += tile.stride, before += tile.sums_stride) {
#pragma GCC unroll 3
    for (int v = 0; v < kTileVectors; ++v) {
      Vec all = sum[r][v];
      if (tile.sums != nullptr) all = hn::Add(load(before + v * kLanes), all);
      if (tile.bias != nullptr) all = hn::Add(all, load(tile.bias + v * kLanes));
      store(all, c + v * kLanes);
    }
  }
}

/// Columns of b, `stride` elements from one k to the next. With kKeep they are packed, too.
template <int kRows, class T, bool kKeep>
void RegisterTile(const float* HWY_RESTRICT a, const T* HWY_RESTRICT b, int64_t stride,
                  float* HWY_RESTRICT packed, int64_t depth, const TileOfC& tile, Ahead ahead) {
  // Few rows do little for each k beside asking for what lies ahead: once for some k.
  constexpr int64_t kTogether = kRows <= 2 ? 4 : 1;
  const int64_t step = tile.step_of_a > 0 ? tile.step_of_a : kTileRows;
  const int64_t lines = ahead.lines_a_step(depth / kTogether);
  Vec sum[kRows][kTileVectors];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) sum[r][0] = sum[r][1] = sum[r][2] = zero();
  const auto add_next = [&]() QUIRE_INLINE_LAMBDA {
    const Vec b0 = load(b), b1 = load(b + kLanes), b2 = load(b + 2 * kLanes);
    if constexpr (kKeep) {
      store(b0, packed);
      store(b1, packed + kLanes);
      store(b2, packed + 2 * kLanes);
      packed += kTileColumns;
    }
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const Vec x = set(a[r]);
      sum[r][0] = hn::MulAdd(x, b0, sum[r][0]);
      sum[r][1] = hn::MulAdd(x, b1, sum[r][1]);
      sum[r][2] = hn::MulAdd(x, b2, sum[r][2]);
    }
    a += step;
    b += stride;
  };
  int64_t k = 0;
  for (; k + kTogether <= depth; k += kTogether) {
    ahead.ask(lines);
#pragma GCC unroll 4
    for (int64_t i = 0; i < kTogether; ++i) add_next();
  }
  for (; kTogether > 1 && k < depth; ++k) add_next();
  StoreTile<kRows>(sum, tile);
}

template <class T, int... kRows>
constexpr auto tiles_of(std::integer_sequence<int, kRows...> /*rows*/) {
  return std::array{RegisterTile<kRows + 1, T, /*kKeep=*/false>...};
}
template <class T>
constexpr auto kTiles = tiles_of<T>(std::make_integer_sequence<int, kTileRows>());

/// Calls multiply(whole tile). One at the right edge goes through memory of its own, of which
/// `columns` count.
template <class Multiply>
void ForWholeTile(const TileOfC& tile, const Multiply& multiply) {
  if (tile.columns == kTileColumns) return multiply(tile);
  HWY_ALIGN float edge[kTileRows * kTileColumns];
  TileOfC whole = {.c = edge,
                   .stride = kTileColumns,
                   .rows = tile.rows,
                   .columns = kTileColumns,
                   .step_of_a = tile.step_of_a};
  if (tile.sums != nullptr) {
    for (int64_t r = 0; r < tile.rows; ++r) {
      std::copy_n(tile.sums + r * tile.sums_stride, tile.columns, edge + r * kTileColumns);
    }
    whole.sums = edge;
    whole.sums_stride = kTileColumns;
  }
  multiply(whole);
  for (int64_t r = 0; r < tile.rows; ++r) {
    float* c = tile.c + r * tile.stride;
    std::copy_n(edge + r * kTileColumns, tile.columns, c);
    for (int64_t j = 0; tile.bias != nullptr && j < tile.columns; ++j) c[j] += tile.bias[j];
  }
}

void Multiply(const void* a, const void* b, int64_t depth, const TileOfC& tile, Ahead ahead) {
  ForWholeTile(tile, [&](const TileOfC& whole) HWY_ATTR {
    kTiles<float>[static_cast<size_t>(tile.rows - 1)](static_cast<const float*>(a),
                                                      static_cast<const float*>(b), kTileColumns,
                                                      nullptr, depth, whole, ahead);
  });
}

void PackAndMultiply(const void* a, const PanelOfB& panel, int64_t depth, const TileOfC& tile,
                     Ahead ahead) {
  float* packed = static_cast<float*>(panel.packed);
  const Operand& b = panel.b;
  // Those of panels are filled up.
  const bool whole_columns = tile.columns == kTileColumns || b.panel_stride != 0;
  if (b.column_stride == 1 && whole_columns && (!panel.keep || tile.rows == kTileRows)) {
    ForWholeTile(tile, [&](const TileOfC& whole) HWY_ATTR {
      dispatch(b.dtype, [&]<class T>() HWY_ATTR {
        const auto multiply = panel.keep ? RegisterTile<kTileRows, T, /*kKeep=*/true>
                                         : kTiles<T>[static_cast<size_t>(tile.rows - 1)];
        multiply(static_cast<const float*>(a), b.at<T>(panel.first_k, panel.first_column),
                 b.row_stride, packed, depth, whole, ahead);
      });
    });
    return;
  }
  const Operand columns{b.data, b.dtype, b.column_stride, b.row_stride};
  Pack(columns, panel.first_column, tile.columns, panel.first_k, depth, 1.0f, kTileColumns, packed);
  Multiply(a, packed, depth, tile, ahead);
}

const void* PackedAlready(const PanelOfB& panel) {
  const Operand& b = panel.b;
  if (b.panel_stride == 0 || b.dtype != DType::f32 || kTileColumns != kPanelColumns) return nullptr;
  return b.at<float>(panel.first_k, panel.first_column);
}

void AddColumnSums(const float* rows, int64_t row_count, int64_t stride, int64_t count,
                   float* sums) {
  for (int64_t i = 0; i < row_count; ++i) {
    for_vectors(count, [&](int64_t j, int64_t lanes) QUIRE_INLINE_LAMBDA {
      store(hn::Add(load(sums + j, lanes), load(rows + i * stride + j, lanes)), sums + j, lanes);
    });
  }
}

PackedFormat Format() {
  return {.panel_rows = kTileRows,
          .panel_columns = kTileColumns,
          .word_depth = 1,
          .step_depth = 1,
          .block_depth = kSumDepth,
          .pack_rows = PackRows,
          .multiply = Multiply,
          .pack_and_multiply = PackAndMultiply,
          .packed_already = PackedAlready};
}

}  // namespace HWY_NAMESPACE
}  // namespace quire::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace quire::cpu {

HWY_EXPORT(Format);
HWY_EXPORT(AddColumnSums);

PackedFormat float_format() {
  return HWY_DYNAMIC_DISPATCH(Format)();
}

void add_column_sums(const float* rows, std::int64_t row_count, std::int64_t stride,
                     std::int64_t count, float* sums) {
  HWY_DYNAMIC_DISPATCH(AddColumnSums)(rows, row_count, stride, count, sums);
}

}  // namespace quire::cpu
#endif

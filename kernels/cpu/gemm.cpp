// The register tile holds panel_rows × 3 vectors of C. B is packed into panels as wide as the tile
// and kSumDepth deep (25 KB with 16 lanes: level-1 cache), A into panels of panel_rows.
#include "kernels/cpu/gemm.h"

#include <algorithm>
#include <cstring>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/gemm.cpp"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "kernels/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace quire::cpu {
namespace HWY_NAMESPACE {
using F = F32;
using V = Vec;

// 24 accumulators + 3 of B + 1 broadcast fill 32 registers; with 16 registers 12 + 3 + 1 do.
#undef QUIRE_TILE_ROWS
#if HWY_TARGET <= HWY_AVX3 || HWY_TARGET == HWY_NEON
#define QUIRE_TILE_ROWS 8
#else
#define QUIRE_TILE_ROWS 4
#endif
constexpr int kTileRows = QUIRE_TILE_ROWS;
constexpr int kTileVectors = 3;

HWY_INLINE int64_t TileColumns() {
  return kTileVectors * static_cast<int64_t>(hn::Lanes(F()));
}

// ---- packing: panel[k][lane], lanes beyond `valid` are zero

// Lanes lie side by side in memory, k rows apart by `stride`. D is no wider than the panel.
template <class D, class T>
void PackCopy(D d, const T* source, int64_t stride, int64_t width, int64_t valid, int64_t depth,
              float* panel) {
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t k = 0; k < depth; ++k) {
    const T* row = source + k * stride;
    float* out = panel + k * width;
    int64_t j = 0;
    for (; j + lanes <= valid; j += lanes) hn::StoreU(load_as(d, row + j), d, out + j);
    for (; j < valid; ++j) out[j] = as_float(row[j]);
    for (; j < width; ++j) out[j] = 0.0f;
  }
}

// Each lane is a run of k in memory, lanes apart by `stride`: transposed four by four.
template <class T>
void PackTranspose(const T* source, int64_t stride, int64_t width, int64_t valid, int64_t depth,
                   float* panel) {
  int64_t lane = 0;
#if HWY_TARGET != HWY_SCALAR
  const hn::Full128<float> d4;
  const hn::Repartition<double, hn::Full128<float>> d2;
  for (; lane + 4 <= valid; lane += 4) {
    const T* r0 = source + lane * stride;
    const T* r1 = r0 + stride;
    const T* r2 = r1 + stride;
    const T* r3 = r2 + stride;
    float* out = panel + lane;
    int64_t k = 0;
    for (; k + 4 <= depth; k += 4) {
      const auto a = load_as(d4, r0 + k), b = load_as(d4, r1 + k), c = load_as(d4, r2 + k),
                 e = load_as(d4, r3 + k);
      const auto ab_low = hn::BitCast(d2, hn::InterleaveLower(d4, a, b));
      const auto ab_high = hn::BitCast(d2, hn::InterleaveUpper(d4, a, b));
      const auto ce_low = hn::BitCast(d2, hn::InterleaveLower(d4, c, e));
      const auto ce_high = hn::BitCast(d2, hn::InterleaveUpper(d4, c, e));
      hn::StoreU(hn::BitCast(d4, hn::InterleaveLower(d2, ab_low, ce_low)), d4, out);
      hn::StoreU(hn::BitCast(d4, hn::InterleaveUpper(d2, ab_low, ce_low)), d4, out + width);
      hn::StoreU(hn::BitCast(d4, hn::InterleaveLower(d2, ab_high, ce_high)), d4, out + 2 * width);
      hn::StoreU(hn::BitCast(d4, hn::InterleaveUpper(d2, ab_high, ce_high)), d4, out + 3 * width);
      out += 4 * width;
    }
    for (; k < depth; ++k, out += width) {
      out[0] = as_float(r0[k]);
      out[1] = as_float(r1[k]);
      out[2] = as_float(r2[k]);
      out[3] = as_float(r3[k]);
    }
  }
#endif
  for (; lane < valid; ++lane) {
    for (int64_t k = 0; k < depth; ++k)
      panel[k * width + lane] = as_float(source[lane * stride + k]);
  }
  for (; lane < width; ++lane) {
    for (int64_t k = 0; k < depth; ++k) panel[k * width + lane] = 0.0f;
  }
}

// Packs a panel of `valid` lanes from (lane, k) = (first_lane, first_k) on.
template <class T>
void PackPanel(const T* data, int64_t lane_stride, int64_t k_stride, int64_t first_lane,
               int64_t first_k, int64_t width, int64_t valid, int64_t depth, float* panel) {
  const T* source = data + first_lane * lane_stride + first_k * k_stride;
  if (lane_stride == 1) {
    if (width == kTileRows) {
      PackCopy(hn::CappedTag<float, kTileRows>(), source, k_stride, width, valid, depth, panel);
    } else {
      PackCopy(F(), source, k_stride, width, valid, depth, panel);
    }
  } else {
    PackTranspose(source, lane_stride, width, valid, depth, panel);
  }
}

// ---- the register tile

enum class Into { overwrite, add };

// c[r][:] (+)= sum_k a[k·kRowsPacked + r]·b[k][:], r < kRows. The sum starts from zero and is then
// added: see kSumDepth.
template <int kRows>
HWY_INLINE void RegisterTile(const float* HWY_RESTRICT a, int64_t a_step,
                             const float* HWY_RESTRICT b, int64_t b_step, int64_t depth, Into into,
                             float* HWY_RESTRICT c, int64_t c_stride) {
  const F d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  // Named registers: an array of vectors is spilled by GCC 12.
#define QUIRE_ROW(r) V c##r##0 = hn::Zero(d), c##r##1 = hn::Zero(d), c##r##2 = hn::Zero(d);
  QUIRE_ROW(0)
  QUIRE_ROW(1)
  QUIRE_ROW(2)
  QUIRE_ROW(3)
  QUIRE_ROW(4)
  QUIRE_ROW(5)
  QUIRE_ROW(6)
  QUIRE_ROW(7)
#undef QUIRE_ROW
  for (int64_t k = 0; k < depth; ++k, a += a_step, b += b_step) {
    const V b0 = hn::LoadU(d, b);
    const V b1 = hn::LoadU(d, b + lanes);
    const V b2 = hn::LoadU(d, b + 2 * lanes);
#define QUIRE_ROW(r)                      \
  if constexpr (r < kRows) {              \
    const V x = hn::Set(d, a[r]);         \
    c##r##0 = hn::MulAdd(x, b0, c##r##0); \
    c##r##1 = hn::MulAdd(x, b1, c##r##1); \
    c##r##2 = hn::MulAdd(x, b2, c##r##2); \
  }
    QUIRE_ROW(0)
    QUIRE_ROW(1)
    QUIRE_ROW(2)
    QUIRE_ROW(3)
    QUIRE_ROW(4)
    QUIRE_ROW(5)
    QUIRE_ROW(6)
    QUIRE_ROW(7)
#undef QUIRE_ROW
  }
#define QUIRE_ROW(r)                                                          \
  if constexpr (r < kRows) {                                                  \
    if (into == Into::add) {                                                  \
      c##r##0 = hn::Add(hn::LoadU(d, c + r * c_stride), c##r##0);             \
      c##r##1 = hn::Add(hn::LoadU(d, c + r * c_stride + lanes), c##r##1);     \
      c##r##2 = hn::Add(hn::LoadU(d, c + r * c_stride + 2 * lanes), c##r##2); \
    }                                                                         \
    hn::StoreU(c##r##0, d, c + r * c_stride);                                 \
    hn::StoreU(c##r##1, d, c + r * c_stride + lanes);                         \
    hn::StoreU(c##r##2, d, c + r * c_stride + 2 * lanes);                     \
  }
  QUIRE_ROW(0)
  QUIRE_ROW(1)
  QUIRE_ROW(2)
  QUIRE_ROW(3)
  QUIRE_ROW(4)
  QUIRE_ROW(5)
  QUIRE_ROW(6)
  QUIRE_ROW(7)
#undef QUIRE_ROW
}

using TileFunction = void (*)(const float*, int64_t, const float*, int64_t, int64_t, Into, float*,
                              int64_t);
template <int kRows>
void RunTile(const float* a, int64_t a_step, const float* b, int64_t b_step, int64_t depth,
             Into into, float* c, int64_t c_stride) {
  RegisterTile<kRows>(a, a_step, b, b_step, depth, into, c, c_stride);
}
constexpr TileFunction kTiles[kTileRows] = {
    RunTile<1>, RunTile<2>, RunTile<3>, RunTile<4>,
#if QUIRE_TILE_ROWS == 8
    RunTile<5>, RunTile<6>, RunTile<7>, RunTile<8>,
#endif
};

// A tile at the right edge goes through a whole tile in `edge`, of which `valid` columns count.
HWY_INLINE void EdgeTile(int64_t rows, const float* a, int64_t a_step, const float* b,
                         int64_t depth, Into into, float* c, int64_t c_stride, int64_t valid,
                         float* edge) {
  const int64_t width = TileColumns();
  if (into == Into::add) {
    for (int64_t r = 0; r < rows; ++r) std::copy_n(c + r * c_stride, valid, edge + r * width);
  }
  kTiles[rows - 1](a, a_step, b, width, depth, into, edge, width);
  for (int64_t r = 0; r < rows; ++r) std::copy_n(edge + r * width, valid, c + r * c_stride);
}

void AddBias(const float* bias, int64_t count, float* row) {
  const F d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t j = 0;
  for (; j + lanes <= count; j += lanes) {
    hn::StoreU(hn::Add(hn::LoadU(d, row + j), hn::LoadU(d, bias + j)), d, row + j);
  }
  for (; j < count; ++j) row[j] += bias[j];
}

// sums[j] += rows[0][j] + rows[1][j] + …, in that order.
void AddColumnSums(const float* rows, int64_t row_count, int64_t stride, int64_t count,
                   float* sums) {
  for (int64_t i = 0; i < row_count; ++i) AddBias(rows + i * stride, count, sums);
}

// ---- the packed product

void Scale(float factor, int64_t count, float* values) {
  for_vectors(count, [&](int64_t i, int64_t lanes) QUIRE_INLINE_LAMBDA {
    store(hn::Mul(set(factor), load(values + i, lanes)), values + i, lanes);
  });
}

void PackRows(const Product& p, int64_t first, int64_t count, void* packed, int64_t packed_rows,
              int64_t at) {
  const float* data = static_cast<const float*>(p.a.data);
  for (int64_t k = 0; k < p.k; k += kSumDepth) {
    const int64_t depth = std::min(kSumDepth, p.k - k);
    float* block = static_cast<float*>(packed) + k * packed_rows + at * depth;
    for (int64_t i = 0; i < count; i += kTileRows) {
      PackPanel(data, p.a.row_stride, p.a.column_stride, first + i, k, int64_t{kTileRows},
                std::min<int64_t>(kTileRows, count - i), depth, block + i * depth);
      if (p.a_scale != 1.0f) Scale(p.a_scale, kTileRows * depth, block + i * depth);
    }
  }
}

template <class T>
void GemmTileOf(const Product& p, const Tile& t, float* scratch) {
  const int64_t width = TileColumns();
  float* edge = scratch;
  float* panels = scratch + kTileRows * width;
  const T* data = static_cast<const T*>(p.b.data);
  const int64_t end_column = t.first_column + t.columns;
  for (int64_t k = 0; k < p.k; k += kSumDepth) {
    const int64_t depth = std::min(kSumDepth, p.k - k);
    const Into into =
        k == 0 && p.output == Product::Output::overwrite ? Into::overwrite : Into::add;
    const float* block = static_cast<const float*>(t.packed) + k * t.packed_rows +
                         (t.first_row - t.packed_first) * depth;
    for (int64_t j = t.first_column; j < end_column; j += width) {
      const int64_t valid = std::min(width, end_column - j);
      PackPanel(data, p.b.column_stride, p.b.row_stride, j, k, width, valid, depth, panels);
      for (int64_t i = 0; i < t.rows; i += kTileRows) {
        const int64_t rows = std::min<int64_t>(kTileRows, t.rows - i);
        const float* a = block + i * depth;
        float* c = p.c + (t.first_row + i) * p.c_stride + j;
        if (valid < width) {
          EdgeTile(rows, a, kTileRows, panels, depth, into, c, p.c_stride, valid, edge);
        } else if (rows == kTileRows) {
          RegisterTile<kTileRows>(a, kTileRows, panels, width, depth, into, c, p.c_stride);
        } else {
          kTiles[rows - 1](a, kTileRows, panels, width, depth, into, c, p.c_stride);
        }
      }
    }
  }
  if (p.bias != nullptr) {
    for (int64_t i = t.first_row; i < t.first_row + t.rows; ++i) {
      AddBias(p.bias + t.first_column, t.columns, p.c + i * p.c_stride + t.first_column);
    }
  }
}

void GemmTile(const Product& p, const Tile& t, void* memory) {
  float* scratch = static_cast<float*>(memory);
  dispatch(p.b.dtype, [&](auto zero) HWY_ATTR { GemmTileOf<decltype(zero)>(p, t, scratch); });
}

PackedFormat Format() {
  const int64_t width = TileColumns();
  return {.panel_rows = kTileRows,
          .panel_columns = width,
          .word_depth = 1,
          .scratch_words = (kTileRows + kSumDepth) * width,
          .pack_rows = PackRows,
          .multiply = GemmTile};
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

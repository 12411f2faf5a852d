// The register tile holds panel_rows × 3 vectors of C. B is packed into panels as wide as the tile
// and kBlockDepth deep (about 49 KB with 16 lanes: level-1 cache), A into panels of panel_rows.
#include "kernels/cpu/gemm.h"

#include <algorithm>
#include <cstring>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/gemm.cpp"
#include "hwy/cache_control.h"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace quire::cpu {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using F = hn::ScalableTag<float>;
using V = hn::Vec<F>;

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

// ---- loading B in its own type

template <class D>
HWY_INLINE hn::Vec<D> LoadFloat(D d, const float* p) {
  return hn::LoadU(d, p);
}
template <class D>
HWY_INLINE hn::Vec<D> LoadFloat(D d, const BFloat16* p) {
  const hn::Rebind<hwy::bfloat16_t, D> narrow;
  return hn::PromoteTo(d, hn::LoadU(narrow, reinterpret_cast<const hwy::bfloat16_t*>(p)));
}
template <class D>
HWY_INLINE hn::Vec<D> LoadFloat(D d, const Half* p) {
  const hn::Rebind<hwy::float16_t, D> narrow;
  return hn::PromoteTo(d, hn::LoadU(narrow, reinterpret_cast<const hwy::float16_t*>(p)));
}
HWY_INLINE float ScalarFloat(float x) {
  return x;
}
HWY_INLINE float ScalarFloat(BFloat16 x) {
  return to_float(x);
}
HWY_INLINE float ScalarFloat(Half x) {
  return to_float(x);
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
    for (; j + lanes <= valid; j += lanes) hn::StoreU(LoadFloat(d, row + j), d, out + j);
    for (; j < valid; ++j) out[j] = ScalarFloat(row[j]);
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
      const auto a = LoadFloat(d4, r0 + k), b = LoadFloat(d4, r1 + k), c = LoadFloat(d4, r2 + k),
                 e = LoadFloat(d4, r3 + k);
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
      out[0] = ScalarFloat(r0[k]);
      out[1] = ScalarFloat(r1[k]);
      out[2] = ScalarFloat(r2[k]);
      out[3] = ScalarFloat(r3[k]);
    }
  }
#endif
  for (; lane < valid; ++lane) {
    for (int64_t k = 0; k < depth; ++k)
      panel[k * width + lane] = ScalarFloat(source[lane * stride + k]);
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

enum class Start { zero, from_c };

// c[r][:] (+)= sum_k a[k·kRowsPacked + r]·b[k][:], r < kRows. Accumulators start at zero or at C,
// so that the chain of additions is the same for any split of k.
template <int kRows>
HWY_INLINE void RegisterTile(const float* HWY_RESTRICT a, int64_t a_step,
                             const float* HWY_RESTRICT b, int64_t b_step, int64_t depth,
                             Start start, float* HWY_RESTRICT c, int64_t c_stride) {
  const F d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  // Named registers: an array of vectors is spilled by GCC 12.
#define QUIRE_ROW(r)                                                     \
  V c##r##0 = hn::Zero(d), c##r##1 = hn::Zero(d), c##r##2 = hn::Zero(d); \
  if (r < kRows && start == Start::from_c) {                             \
    c##r##0 = hn::LoadU(d, c + r * c_stride);                            \
    c##r##1 = hn::LoadU(d, c + r * c_stride + lanes);                    \
    c##r##2 = hn::LoadU(d, c + r * c_stride + 2 * lanes);                \
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
#define QUIRE_ROW(r)                                      \
  if constexpr (r < kRows) {                              \
    hn::StoreU(c##r##0, d, c + r * c_stride);             \
    hn::StoreU(c##r##1, d, c + r * c_stride + lanes);     \
    hn::StoreU(c##r##2, d, c + r * c_stride + 2 * lanes); \
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

using TileFunction = void (*)(const float*, int64_t, const float*, int64_t, int64_t, Start, float*,
                              int64_t);
template <int kRows>
void RunTile(const float* a, int64_t a_step, const float* b, int64_t b_step, int64_t depth,
             Start start, float* c, int64_t c_stride) {
  RegisterTile<kRows>(a, a_step, b, b_step, depth, start, c, c_stride);
}
constexpr TileFunction kTiles[kTileRows] = {
    RunTile<1>, RunTile<2>, RunTile<3>, RunTile<4>,
#if QUIRE_TILE_ROWS == 8
    RunTile<5>, RunTile<6>, RunTile<7>, RunTile<8>,
#endif
};

// A tile at the right edge goes through a whole tile in `edge`, of which `valid` columns count.
HWY_INLINE void EdgeTile(int64_t rows, const float* a, int64_t a_step, const float* b,
                         int64_t depth, Start start, float* c, int64_t c_stride, int64_t valid,
                         float* edge) {
  const int64_t width = TileColumns();
  if (start == Start::from_c) {
    for (int64_t r = 0; r < rows; ++r) std::copy_n(c + r * c_stride, valid, edge + r * width);
  }
  kTiles[rows - 1](a, a_step, b, width, depth, start, edge, width);
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

GemmShape Shape() {
  return {kTileRows, TileColumns()};
}

void PackRows(const Product& p, int64_t first, int64_t count, float* packed, int64_t packed_rows,
              int64_t at) {
  const float* data = static_cast<const float*>(p.a.data);
  for (int64_t k = 0; k < p.k; k += kBlockDepth) {
    const int64_t depth = std::min(kBlockDepth, p.k - k);
    float* block = packed + k * packed_rows + at * depth;
    for (int64_t i = 0; i < count; i += kTileRows) {
      PackPanel(data, p.a.row_stride, p.a.column_stride, first + i, k, int64_t{kTileRows},
                std::min<int64_t>(kTileRows, count - i), depth, block + i * depth);
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
  for (int64_t k = 0; k < p.k; k += kBlockDepth) {
    const int64_t depth = std::min(kBlockDepth, p.k - k);
    const Start start =
        k == 0 && p.output == Product::Output::overwrite ? Start::zero : Start::from_c;
    const float* block = t.packed + k * t.packed_rows + (t.first_row - t.packed_first) * depth;
    for (int64_t j = t.first_column; j < end_column; j += width) {
      const int64_t valid = std::min(width, end_column - j);
      PackPanel(data, p.b.column_stride, p.b.row_stride, j, k, width, valid, depth, panels);
      for (int64_t i = 0; i < t.rows; i += kTileRows) {
        const int64_t rows = std::min<int64_t>(kTileRows, t.rows - i);
        const float* a = block + i * depth;
        float* c = p.c + (t.first_row + i) * p.c_stride + j;
        if (valid < width) {
          EdgeTile(rows, a, kTileRows, panels, depth, start, c, p.c_stride, valid, edge);
        } else if (rows == kTileRows) {
          RegisterTile<kTileRows>(a, kTileRows, panels, width, depth, start, c, p.c_stride);
        } else {
          kTiles[rows - 1](a, kTileRows, panels, width, depth, start, c, p.c_stride);
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

void GemmTile(const Product& p, const Tile& t, float* scratch) {
  switch (p.b.dtype) {
    case DType::f32:
      return GemmTileOf<float>(p, t, scratch);
    case DType::bf16:
      return GemmTileOf<BFloat16>(p, t, scratch);
    case DType::f16:
      return GemmTileOf<Half>(p, t, scratch);
    case DType::i32:
      break;
  }
  throw_dtype(DType::f32, p.b.dtype);
}

// ---- few rows: b is read once, where it lies

// b's columns lie side by side: kRowsAtOnce rows of b at a time are added onto an array of sums
// that stays in level-1 cache, prefetching the rows that come next.
constexpr int64_t kRowsAtOnce = 8;
constexpr int64_t kPrefetchRows = 16;

template <class T, int kM>
void StreamColumns(const Product& p, const float* x, int64_t first, int64_t count) {
  const F d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const T* b = static_cast<const T*>(p.b.data) + first;
  const int64_t stride = p.b.row_stride;
  float* c = p.c + first;
  if (p.output == Product::Output::overwrite) {
    for (int64_t m = 0; m < kM; ++m) std::fill_n(c + m * p.c_stride, count, 0.0f);
  }
  constexpr int64_t kLine = 64 / sizeof(T);
  int64_t k = 0;
  for (; k + kRowsAtOnce <= p.k; k += kRowsAtOnce) {
    const T* rows = b + k * stride;
    const bool ahead = k + kPrefetchRows + kRowsAtOnce <= p.k;
    int64_t j = 0;
    for (; j + 2 * lanes <= count; j += 2 * lanes) {
      if (ahead && j % kLine == 0) {
        for (int64_t r = 0; r < kRowsAtOnce; ++r) {
          const T* next = rows + (kPrefetchRows + r) * stride + j;
          for (int64_t line = 0; line < 2 * lanes; line += kLine) hwy::Prefetch(next + line);
        }
      }
      V left[kM], right[kM];
      for (int m = 0; m < kM; ++m) {
        left[m] = hn::LoadU(d, c + m * p.c_stride + j);
        right[m] = hn::LoadU(d, c + m * p.c_stride + j + lanes);
      }
      for (int64_t r = 0; r < kRowsAtOnce; ++r) {
        const V w0 = LoadFloat(d, rows + r * stride + j);
        const V w1 = LoadFloat(d, rows + r * stride + j + lanes);
        for (int m = 0; m < kM; ++m) {
          const V broadcast = hn::Set(d, x[m * p.k + k + r]);
          left[m] = hn::MulAdd(broadcast, w0, left[m]);
          right[m] = hn::MulAdd(broadcast, w1, right[m]);
        }
      }
      for (int m = 0; m < kM; ++m) {
        hn::StoreU(left[m], d, c + m * p.c_stride + j);
        hn::StoreU(right[m], d, c + m * p.c_stride + j + lanes);
      }
    }
    const hn::CappedTag<float, 1> d1;
    for (; j < count; ++j) {
      for (int m = 0; m < kM; ++m) {
        float* sum = c + m * p.c_stride + j;
        auto s = hn::Set(d1, *sum);
        for (int64_t r = 0; r < kRowsAtOnce; ++r) {
          s = hn::MulAdd(hn::Set(d1, x[m * p.k + k + r]),
                         hn::Set(d1, ScalarFloat(rows[r * stride + j])), s);
        }
        *sum = hn::GetLane(s);
      }
    }
  }
  const hn::CappedTag<float, 1> d1;
  for (; k < p.k; ++k) {
    for (int64_t j = 0; j < count; ++j) {
      const auto w = hn::Set(d1, ScalarFloat(b[k * stride + j]));
      for (int m = 0; m < kM; ++m) {
        float* sum = c + m * p.c_stride + j;
        *sum = hn::GetLane(hn::MulAdd(hn::Set(d1, x[m * p.k + k]), w, hn::Set(d1, *sum)));
      }
    }
  }
}

// b's columns are runs of k, so four k of as many columns as a vector has lanes are transposed in
// registers: block i of slot s holds column 4·i + s, and a 4 by 4 transposition inside the blocks
// leaves each k's values in column order.
#if HWY_TARGET != HWY_SCALAR
template <class D, class T>
HWY_INLINE hn::Vec<D> LoadBlocks(D d, const T* p, int64_t block_stride) {
  if constexpr (hn::MaxLanes(D()) <= 4) {
    return LoadFloat(d, p);
  } else {
    const hn::Half<D> half;
    const int64_t blocks = static_cast<int64_t>(hn::MaxLanes(D())) / 8;
    return hn::Combine(d, LoadBlocks(half, p + blocks * block_stride, block_stride),
                       LoadBlocks(half, p, block_stride));
  }
}

struct FourSteps {
  V k0, k1, k2, k3;
};

template <class T>
HWY_INLINE FourSteps LoadFourSteps(const T* p, int64_t stride) {
  const F d;
  const hn::Repartition<double, F> d2;
  const V a = LoadBlocks(d, p, 4 * stride), b = LoadBlocks(d, p + stride, 4 * stride);
  const V c = LoadBlocks(d, p + 2 * stride, 4 * stride),
          e = LoadBlocks(d, p + 3 * stride, 4 * stride);
  const auto ab_low = hn::BitCast(d2, hn::InterleaveLower(d, a, b));
  const auto ab_high = hn::BitCast(d2, hn::InterleaveUpper(d, a, b));
  const auto ce_low = hn::BitCast(d2, hn::InterleaveLower(d, c, e));
  const auto ce_high = hn::BitCast(d2, hn::InterleaveUpper(d, c, e));
  return {hn::BitCast(d, hn::InterleaveLower(d2, ab_low, ce_low)),
          hn::BitCast(d, hn::InterleaveUpper(d2, ab_low, ce_low)),
          hn::BitCast(d, hn::InterleaveLower(d2, ab_high, ce_high)),
          hn::BitCast(d, hn::InterleaveUpper(d2, ab_high, ce_high))};
}

// Two vectors of columns at a time: one chain of additions alone would wait for its own latency.
template <class T, int kM>
HWY_INLINE void StreamRunPair(const Product& p, const float* x, int64_t first) {
  const F d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const int64_t stride = p.b.column_stride;
  const T* b = static_cast<const T*>(p.b.data) + first * stride;
  float* c = p.c + first;
  const bool fresh = p.output == Product::Output::overwrite;
  V left[kM], right[kM];
  for (int m = 0; m < kM; ++m) {
    left[m] = fresh ? hn::Zero(d) : hn::LoadU(d, c + m * p.c_stride);
    right[m] = fresh ? hn::Zero(d) : hn::LoadU(d, c + m * p.c_stride + lanes);
  }
  constexpr int64_t kLine = 64 / sizeof(T);
  const bool ahead = first + 4 * lanes <= p.n;
  int64_t k = 0;
  for (; k + 4 <= p.k; k += 4) {
    if (ahead && k % kLine == 0) {  // the same k of the columns that come next
      for (int64_t j = 2 * lanes; j < 4 * lanes; ++j) hwy::Prefetch(b + j * stride + k);
    }
    const FourSteps l = LoadFourSteps(b + k, stride);
    const FourSteps r = LoadFourSteps(b + lanes * stride + k, stride);
    for (int m = 0; m < kM; ++m) {
      const float* xs = x + m * p.k + k;
      const V x0 = hn::Set(d, xs[0]), x1 = hn::Set(d, xs[1]), x2 = hn::Set(d, xs[2]),
              x3 = hn::Set(d, xs[3]);
      left[m] = hn::MulAdd(
          x3, l.k3, hn::MulAdd(x2, l.k2, hn::MulAdd(x1, l.k1, hn::MulAdd(x0, l.k0, left[m]))));
      right[m] = hn::MulAdd(
          x3, r.k3, hn::MulAdd(x2, r.k2, hn::MulAdd(x1, r.k1, hn::MulAdd(x0, r.k0, right[m]))));
    }
  }
  for (int m = 0; m < kM; ++m) {
    hn::StoreU(left[m], d, c + m * p.c_stride);
    hn::StoreU(right[m], d, c + m * p.c_stride + lanes);
  }
  if (k < p.k) {
    const hn::CappedTag<float, 1> d1;
    for (int64_t j = 0; j < 2 * lanes; ++j) {
      for (int m = 0; m < kM; ++m) {
        auto sum = hn::Set(d1, c[m * p.c_stride + j]);
        for (int64_t i = k; i < p.k; ++i) {
          sum = hn::MulAdd(hn::Set(d1, x[m * p.k + i]), hn::Set(d1, ScalarFloat(b[j * stride + i])),
                           sum);
        }
        c[m * p.c_stride + j] = hn::GetLane(sum);
      }
    }
  }
}
#endif

template <class T, int kM>
void StreamRuns(const Product& p, const float* x, int64_t first, int64_t count) {
  int64_t j = first;
  const int64_t end = first + count;
#if HWY_TARGET != HWY_SCALAR
  const int64_t pair = 2 * static_cast<int64_t>(hn::Lanes(F()));
  for (; j + pair <= end; j += pair) StreamRunPair<T, kM>(p, x, j);
#endif
  const hn::CappedTag<float, 1> d1;
  const T* b = static_cast<const T*>(p.b.data);
  for (; j < end; ++j) {
    for (int m = 0; m < kM; ++m) {
      float* c = p.c + m * p.c_stride + j;
      auto sum = hn::Set(d1, p.output == Product::Output::overwrite ? 0.0f : *c);
      for (int64_t k = 0; k < p.k; ++k) {
        sum = hn::MulAdd(hn::Set(d1, x[m * p.k + k]),
                         hn::Set(d1, ScalarFloat(b[j * p.b.column_stride + k])), sum);
      }
      *c = hn::GetLane(sum);
    }
  }
}

template <class T, int kM>
void StreamProductOf(const Product& p, int64_t first, int64_t count, float* x) {
  const float* a = static_cast<const float*>(p.a.data);
  for (int64_t m = 0; m < kM; ++m) {
    for (int64_t k = 0; k < p.k; ++k)
      x[m * p.k + k] = a[m * p.a.row_stride + k * p.a.column_stride];
  }
  if (p.b.column_stride == 1) {
    StreamColumns<T, kM>(p, x, first, count);
  } else {
    StreamRuns<T, kM>(p, x, first, count);
  }
  if (p.bias != nullptr) {
    for (int64_t m = 0; m < kM; ++m) AddBias(p.bias + first, count, p.c + m * p.c_stride + first);
  }
}

template <class T>
void StreamProductOfType(const Product& p, int64_t first, int64_t count, float* scratch) {
  switch (p.m) {
    case 1:
      return StreamProductOf<T, 1>(p, first, count, scratch);
    case 2:
      return StreamProductOf<T, 2>(p, first, count, scratch);
    case 3:
      return StreamProductOf<T, 3>(p, first, count, scratch);
    case 4:
      return StreamProductOf<T, 4>(p, first, count, scratch);
    case 5:
      return StreamProductOf<T, 5>(p, first, count, scratch);
    case 6:
      return StreamProductOf<T, 6>(p, first, count, scratch);
    case 7:
      return StreamProductOf<T, 7>(p, first, count, scratch);
    case 8:
      return StreamProductOf<T, 8>(p, first, count, scratch);
    default:
      throw Error(Fault::internal, "stream_product: too many rows");
  }
}

void StreamProduct(const Product& p, int64_t first, int64_t count, float* scratch) {
  switch (p.b.dtype) {
    case DType::f32:
      return StreamProductOfType<float>(p, first, count, scratch);
    case DType::bf16:
      return StreamProductOfType<BFloat16>(p, first, count, scratch);
    case DType::f16:
      return StreamProductOfType<Half>(p, first, count, scratch);
    case DType::i32:
      break;
  }
  throw_dtype(DType::f32, p.b.dtype);
}

}  // namespace HWY_NAMESPACE
}  // namespace quire::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace quire::cpu {

HWY_EXPORT(Shape);
HWY_EXPORT(PackRows);
HWY_EXPORT(GemmTile);
HWY_EXPORT(AddColumnSums);
HWY_EXPORT(StreamProduct);

GemmShape gemm_shape() {
  return HWY_DYNAMIC_DISPATCH(Shape)();
}

void pack_rows(const Product& product, std::int64_t first, std::int64_t count, float* packed,
               std::int64_t packed_rows, std::int64_t at) {
  HWY_DYNAMIC_DISPATCH(PackRows)(product, first, count, packed, packed_rows, at);
}

void add_column_sums(const float* rows, std::int64_t row_count, std::int64_t stride,
                     std::int64_t count, float* sums) {
  HWY_DYNAMIC_DISPATCH(AddColumnSums)(rows, row_count, stride, count, sums);
}

void gemm_tile(const Product& product, const Tile& tile, float* scratch) {
  HWY_DYNAMIC_DISPATCH(GemmTile)(product, tile, scratch);
}

std::int64_t gemm_tile_scratch() {
  const GemmShape shape = gemm_shape();
  return (shape.panel_rows + kBlockDepth) * shape.panel_columns;
}

void stream_product(const Product& product, std::int64_t first, std::int64_t count,
                    float* scratch) {
  HWY_DYNAMIC_DISPATCH(StreamProduct)(product, first, count, scratch);
}

}  // namespace quire::cpu
#endif

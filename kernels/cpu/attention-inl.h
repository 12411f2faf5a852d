// What the attention kernels share: blocks of keys, and a small matrix product in registers.
//
// Keys are taken in blocks of 64 that are counted from the query's first key, so that a left-padded
// row and the same prompt alone run through the same arithmetic. Within a product each element is
// one chain of fused multiply-adds in a fixed order: neither the number of queries nor how they are
// grouped changes a bit of it.
#include <algorithm>
#include <array>
#include <type_traits>

#include "kernels/ops.h"

#if defined(QUIRE_CPU_ATTENTION_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef QUIRE_CPU_ATTENTION_INL
#undef QUIRE_CPU_ATTENTION_INL
#else
#define QUIRE_CPU_ATTENTION_INL
#endif

#include "kernels/cpu/random-inl.h"

HWY_BEFORE_NAMESPACE();
namespace quire::cpu::HWY_NAMESPACE {

inline constexpr std::int64_t kKeys = 64;  // of one block
static_assert(kKeys % kLanes == 0);

// ---------------------------------------------------------------- products

/// c = a·b or c += a·b. Rows of b and c hold whole vectors; a is read element by element.
struct SmallProduct {
  const float* a;  // element (i, k) at a[i·a_row + k·a_column]
  std::int64_t a_row, a_column;
  const float* b;  // [k, n], rows b_stride apart
  std::int64_t b_stride;
  float* c;  // [m, n], rows c_stride apart
  std::int64_t c_stride;
  std::int64_t ragged = 0;  // row i of four has min(i, ragged) terms more
};

enum class Into : std::uint8_t { overwrite, add };

// With 32 registers 4 rows × 4 vectors (16 sums, 4 of b, 1 of a), with 16 registers 4 × 2.
inline constexpr int kTileRows = 4;
#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_SSE4
inline constexpr int kTileVectors = 2;
#else
inline constexpr int kTileVectors = 4;
#endif

template <Into into, int kRows, int kVectors>
HWY_INLINE void product_tile(const SmallProduct& p, std::int64_t row, std::int64_t column,
                             std::int64_t depth) {
  const float* a = p.a + row * p.a_row;
  const float* b = p.b + column;
  float* c = p.c + row * p.c_stride + column;
  Vec sum[kRows][kVectors];
#pragma GCC unroll 4
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 4
    for (int j = 0; j < kVectors; ++j) {
      sum[i][j] = into == Into::add ? load(c + i * p.c_stride + j * kLanes) : zero();
    }
  }
  // Term k of rows first_row and on.
  const auto add_term = [&](std::int64_t k, int first_row) QUIRE_INLINE_LAMBDA {
    Vec b_k[kVectors];
#pragma GCC unroll 4
    for (int j = 0; j < kVectors; ++j) b_k[j] = load(b + k * p.b_stride + j * kLanes);
#pragma GCC unroll 4
    for (int i = first_row; i < kRows; ++i) {
      const Vec a_ik = set(a[i * p.a_row + k * p.a_column]);
#pragma GCC unroll 4
      for (int j = 0; j < kVectors; ++j) sum[i][j] = hn::MulAdd(a_ik, b_k[j], sum[i][j]);
    }
  };
  for (std::int64_t k = 0; k < depth; ++k) add_term(k, 0);
  if constexpr (into == Into::add && kRows == kTileRows) {
    if (p.ragged > 0) add_term(depth, 1);
    if (p.ragged > 1) add_term(depth + 1, 2);
    if (p.ragged > 2) add_term(depth + 2, 3);
    static_assert(kTileRows == 4);
  }
#pragma GCC unroll 4
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 4
    for (int j = 0; j < kVectors; ++j) store(sum[i][j], c + i * p.c_stride + j * kLanes);
  }
}

template <Into into, int kRows>
HWY_INLINE void product_rows(const SmallProduct& p, std::int64_t row, std::int64_t n,
                             std::int64_t depth) {
  std::int64_t column = 0;
  for (; column + kTileVectors * kLanes <= n; column += kTileVectors * kLanes) {
    product_tile<into, kRows, kTileVectors>(p, row, column, depth);
  }
  if constexpr (kTileVectors == 4) {  // what is left in one piece: four sums alone wait for loads
    if (column + 3 * kLanes <= n) return product_tile<into, kRows, 3>(p, row, column, depth);
    if (column + 2 * kLanes <= n) return product_tile<into, kRows, 2>(p, row, column, depth);
  }
  if (column < n) product_tile<into, kRows, 1>(p, row, column, depth);
}

/// The product over `depth` terms; n is a multiple of kLanes. Ragged rows come in fours.
template <Into into>
void product(const SmallProduct& p, std::int64_t m, std::int64_t n, std::int64_t depth) {
  std::int64_t row = 0;
  for (; row + kTileRows <= m; row += kTileRows) product_rows<into, kTileRows>(p, row, n, depth);
  for (; row < m; ++row) product_rows<into, 1>(p, row, n, depth);
}

// ---------------------------------------------------------------- packing

/// Rows of one head in memory: row i starts at first + i·stride and has D floats.
struct Rows {
  const float* first;
  std::int64_t stride;
  const float* operator[](std::int64_t i) const { return first + i * stride; }
};

/// to[i, 0…D) = scale·rows[i], then zeros up to the next whole vector.
inline void pack_rows(Rows rows, std::int64_t count, std::int64_t D, float scale, float* to) {
  const std::int64_t width = round_up_to_lanes(D);
  for (std::int64_t i = 0; i < count; ++i) {
    for_vectors(D, [&](std::int64_t d, std::int64_t lanes) QUIRE_INLINE_LAMBDA {
      hn::StoreU(hn::Mul(load(rows[i] + d, lanes), set(scale)), F32(), to + i * width + d);
    });
  }
}

/// to[d, i] = rows[i][d], [D, kKeys], with zeros from i = count up to the next whole vector.
inline void pack_columns(Rows rows, std::int64_t count, std::int64_t D, float* to) {
  if (count % kLanes != 0) {
    const std::int64_t last = count / kLanes * kLanes;
    for (std::int64_t d = 0; d < D; ++d) store(zero(), to + d * kKeys + last);
  }
  std::int64_t i = 0;
#if HWY_TARGET != HWY_SCALAR
  // Squares of four by four: 8 shuffles for 16 floats. One by one, packing the keys took most of a
  // decode step's attention (1.8 µs a block of D = 64, now 0.8).
  const hn::Full128<float> d4;
  for (; i + 4 <= count; i += 4) {
    const float *r0 = rows[i], *r1 = rows[i + 1], *r2 = rows[i + 2], *r3 = rows[i + 3];
    float* column = to + i;
    std::int64_t d = 0;
    for (; d + 4 <= D; d += 4, column += 4 * kKeys) {
      auto c0 = hn::LoadU(d4, r0 + d), c1 = hn::LoadU(d4, r1 + d);
      auto c2 = hn::LoadU(d4, r2 + d), c3 = hn::LoadU(d4, r3 + d);
      transpose_blocks(d4, c0, c1, c2, c3);
      hn::StoreU(c0, d4, column);
      hn::StoreU(c1, d4, column + kKeys);
      hn::StoreU(c2, d4, column + 2 * kKeys);
      hn::StoreU(c3, d4, column + 3 * kKeys);
    }
    for (; d < D; ++d, column += kKeys) {
      column[0] = r0[d];
      column[1] = r1[d];
      column[2] = r2[d];
      column[3] = r3[d];
    }
  }
#endif
  for (; i < count; ++i) {
    for (std::int64_t d = 0; d < D; ++d) to[d * kKeys + i] = rows[i][d];
  }
}

#if HWY_TARGET != HWY_SCALAR
/// Four floats of every fourth row: block b of the vector has those of row i + 4b. Rows behind `last`
/// are that one again.
template <bool kWhole>
HWY_INLINE Vec fours_of_rows(Rows rows, std::int64_t i, std::int64_t last, std::int64_t d) {
  const hn::Full128<float> d4;
  const auto four = [&](std::int64_t block) QUIRE_INLINE_LAMBDA {
    const std::int64_t row = i + 4 * block;
    return hn::LoadU(d4, rows[kWhole ? row : std::min(row, last)] + d);
  };
  static_assert(kLanes == 4 || kLanes == 8 || kLanes == 16);
  if constexpr (kLanes == 4) {
    return four(0);
  } else {
    const hn::Half<F32> half;
    if constexpr (kLanes == 8) {
      return hn::Combine(F32(), four(1), four(0));
    } else {
      return hn::Combine(F32(), hn::Combine(half, four(3), four(2)),
                         hn::Combine(half, four(1), four(0)));
    }
  }
}
#endif

/// scores[i] = q · rows[i] for the rows below `count` and what else is in their vectors, to the bit as
/// product() of packed columns has them: the keys of one query are turned in registers, as packing
/// them for nothing but this took longer than all the rest. D is a multiple of four. Meanwhile it asks
/// for as many floats from each of `ahead`, or none where that is null.
inline void scores_of_one(const float* q, Rows rows, std::int64_t count, std::int64_t D,
                          float* scores, [[maybe_unused]] std::array<const float*, 2> ahead) {
#if HWY_TARGET == HWY_SCALAR
  for (std::int64_t i = 0; i < count; ++i) {
    Vec sum = zero();
    for (std::int64_t d = 0; d < D; ++d) sum = hn::MulAdd(set(q[d]), set(rows[i][d]), sum);
    store(sum, scores + i);
  }
#else
  constexpr std::int64_t kLine = 64 / sizeof(float);
  const auto vector = [&](std::int64_t i, auto whole) QUIRE_INLINE_LAMBDA {
    Vec sum = zero();
    for (std::int64_t d = 0; d < D; d += 4) {
      for (std::int64_t line = 0; ahead[0] != nullptr && line < 4 * kLanes; line += kLine) {
        const std::int64_t at = i * D + d * kLanes + line;
        for (const float* from : ahead) __builtin_prefetch(from + at);
      }
      Vec c0 = fours_of_rows<whole>(rows, i, count - 1, d);
      Vec c1 = fours_of_rows<whole>(rows, i + 1, count - 1, d);
      Vec c2 = fours_of_rows<whole>(rows, i + 2, count - 1, d);
      Vec c3 = fours_of_rows<whole>(rows, i + 3, count - 1, d);
      transpose_blocks(F32(), c0, c1, c2, c3);
      sum = hn::MulAdd(set(q[d]), c0, sum);
      sum = hn::MulAdd(set(q[d + 1]), c1, sum);
      sum = hn::MulAdd(set(q[d + 2]), c2, sum);
      sum = hn::MulAdd(set(q[d + 3]), c3, sum);
    }
    store(sum, scores + i);
  };
  std::int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) vector(i, std::true_type());
  if (i < count) vector(i, std::false_type());
#endif
}

// ---------------------------------------------------------------- dropout

/// The dropout of attention's probabilities; element ((b·H + h)·T + q)·T + k of the stream.
struct ProbabilityDropout {
  float p;
  RandomKey key;
  std::int64_t head;  // b·H + h
  std::int64_t T;
  bool on = p > 0.0f;
  std::uint32_t threshold = dropout_threshold(p);
  float scale = 1.0f / (1.0f - p);

  /// factors[i] for the keys key + i, i in [0, kKeys).
  void factors_of(std::int64_t query, std::int64_t first_key, float* factors) const {
    std::uint32_t room[kKeys + kRandomSlack];
    const auto first = static_cast<std::uint64_t>((head * T + query) * T + first_key);
    const std::uint32_t* numbers = random_row(key, first, kKeys, room);
    for (std::int64_t i = 0; i < kKeys; i += kLanes) {
      store(keep_factor(numbers + i, threshold, set(scale)), factors + i);
    }
  }
};

}  // namespace quire::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // per target

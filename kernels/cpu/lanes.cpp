#include "kernels/cpu/lanes.h"

#include <algorithm>
#include <cstring>
#include <type_traits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/lanes.cpp"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "kernels/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace quire::cpu {
namespace HWY_NAMESPACE {

// Vectors of 4 lanes were not tried.
#if HWY_TARGET <= HWY_AVX2

using Quad = hn::CappedTag<float, 4>;
static_assert(hn::MaxLanes(Quad()) == 4);

/// Rows of words to be turned, and into what.
struct TurnedRows {
  const std::uint32_t* from;
  std::int64_t stride, rows, words;
  std::int64_t lanes, parts;         // rows · parts fill at most the lanes
  std::int64_t part_words, fetched;  // as in lanes-inl.h
  std::uint32_t nothing;             // what stands behind a row's end
};

/// to[block of `parts` parts][part_words][lanes]: lane `parts`·row + part.
void turn_rows(const TurnedRows& t, std::uint32_t* to) {
  const Quad d;
  const std::int64_t depth = t.parts * t.part_words;
  for (std::int64_t begin = 0; begin < t.words; begin += depth, to += t.part_words * t.lanes) {
    const std::int64_t some = std::min(t.part_words, t.words - begin);
    const std::int64_t all = (some + t.fetched - 1) / t.fetched * t.fetched;
    for (std::int64_t lane = 0; lane < t.lanes; lane += 4) {
      const std::uint32_t* from[4];
      std::int64_t left[4];
      for (std::int64_t i = 0; i < 4; ++i) {
        const std::int64_t at = begin + (lane + i) % t.parts * t.part_words;
        const std::int64_t row = std::min((lane + i) / t.parts, t.rows - 1);
        from[i] = t.from + row * t.stride + at;
        left[i] = t.words - at;
      }
      std::uint32_t* out = to + lane;
      for (std::int64_t k = 0; k < all; k += 4, out += 4 * t.lanes) {
        hn::Vec<Quad> v[4];
        for (std::int64_t i = 0; i < 4; ++i) {
          if (HWY_LIKELY(left[i] >= k + 4)) {
            v[i] = hn::LoadU(d, reinterpret_cast<const float*>(from[i] + k));
            continue;
          }
          alignas(16) std::uint32_t words[4];
          for (std::int64_t w = 0; w < 4; ++w)
            words[w] = k + w < left[i] ? from[i][k + w] : t.nothing;
          v[i] = hn::Load(d, reinterpret_cast<const float*>(words));
        }
        transpose_blocks(d, v[0], v[1], v[2], v[3]);
        for (std::int64_t i = 0; i < 4; ++i) {
          hn::StoreU(v[i], d, reinterpret_cast<float*>(out + i * t.lanes));
        }
      }
    }
  }
}

/// Rows [first_row, first_row + rows) of columns [first, first + columns) of c, from sums[column][stride]
/// and the bias.
void put_columns_of(const Product& p, const float* sums, std::int64_t stride,
                    std::int64_t first_row, std::int64_t rows, std::int64_t first,
                    std::int64_t columns) {
  const Quad d;
  std::int64_t j = 0;
  for (; j + 4 <= columns; j += 4, sums += 4 * stride) {
    for (std::int64_t row = 0; row < rows; row += 4) {
      hn::Vec<Quad> v[4];
      for (std::int64_t i = 0; i < 4; ++i) v[i] = hn::LoadU(d, sums + i * stride + row);
      transpose_blocks(d, v[0], v[1], v[2], v[3]);
      for (std::int64_t i = 0; i < std::min<std::int64_t>(4, rows - row); ++i) {
        float* c = p.c + (first_row + row + i) * p.c_stride + first + j;
        if (p.bias != nullptr) v[i] = hn::Add(v[i], hn::LoadU(d, p.bias + first + j));
        hn::StoreU(v[i], d, c);
      }
    }
  }
  for (; j < columns; ++j, sums += stride) {
    for (std::int64_t row = 0; row < rows; ++row) {
      float* c = p.c + (first_row + row) * p.c_stride + first + j;
      *c = p.bias != nullptr ? sums[row] + p.bias[first + j] : sums[row];
    }
  }
}

#include "kernels/cpu/lanes-inl.h"

/// kL lanes, of as many as the target has or fewer.
template <class T, std::int64_t kL>
struct FloatOps {
  using Element = T;
  using D = hn::CappedTag<float, static_cast<std::size_t>(kL)>;
  using Vector = hn::Vec<D>;
  static constexpr std::int64_t kWordDepth = 1;
  static constexpr std::int64_t kPartWords = kSumDepth;
  static constexpr std::int64_t kFetched = HWY_NAMESPACE::kLanes;
  static constexpr bool kMasks = false;
  static constexpr std::int64_t kLanes = kL;

  static HWY_INLINE Vector zero() { return hn::Zero(D()); }
  static HWY_INLINE Vector load(const std::uint32_t* words) {
    return hn::LoadU(D(), reinterpret_cast<const float*>(words));
  }
  template <int kParts>
  static HWY_INLINE Vector broadcast(const std::uint32_t* words) {
    using Together = std::conditional_t<kParts == 1, float, std::uint64_t>;
    const hn::Repartition<Together, D> d;
    Together word;
    std::memcpy(&word, words, sizeof(word));
    return hn::BitCast(D(), hn::Set(d, word));
  }
  static HWY_INLINE Vector multiply_add(Vector x, Vector w, Vector sum) {
    return hn::MulAdd(x, w, sum);
  }

  static HWY_INLINE Vec widen(const T* from, std::int64_t left) {
    if (HWY_LIKELY(left >= kFetched)) return HWY_NAMESPACE::load(from);
    return left <= 0 ? HWY_NAMESPACE::zero() : HWY_NAMESPACE::load(from, left);
  }
  template <int kParts>
  static HWY_INLINE void fetch(const T* from, std::int64_t left, std::uint32_t* words) {
    auto* to = reinterpret_cast<float*>(words);
    const Vec here = widen(from, left);
    if constexpr (kParts == 1) {
      store(here, to);
    } else {
      const Vec there = widen(from + kPartWords, left - kPartWords);
      store(hn::InterleaveLower(F32(), here, there), to);
      store(hn::InterleaveUpper(F32(), here, there), to + kFetched);
    }
  }

  template <int kParts>
  static HWY_INLINE void add(Vector a, Vector b, std::int64_t parts, bool first, float* to) {
    const D d;
    if constexpr (kParts == 1) {
      hn::StoreU(first ? a : hn::Add(hn::LoadU(d, to), a), d, to);
      hn::StoreU(first ? b : hn::Add(hn::LoadU(d, to + kL), b), d, to + kL);
    } else {
      Vector sum = hn::ConcatEven(d, b, a);
      if (!first) sum = hn::Add(hn::LoadU(d, to), sum);
      if (parts == 2) sum = hn::Add(sum, hn::ConcatOdd(d, b, a));
      hn::StoreU(sum, d, to);
    }
  }
};

// How rows are laid into lanes. 32 registers hold 16 sums, or 8 of two parts, which hide the latency of
// additions; 16 hold 12. On a Zen 4, GPT-2 124M's weights, two threads, 8
// rows: by float16 in two parts 10.6 ms, transposed in registers (stream.cpp) 15.8; by float32, which memory
// bounds, in one part 16.3, transposed 17.4, in two 16.7 to 17.6.
struct Layout {
  std::int64_t lanes, rest;  // of the last rows, where they fit
  std::int64_t parts;
};

Layout layout_of(const Product& p) {
  if (kLanes == 8) return {8, 8, 1};
  if (p.m > 8) return {16, 8, 1};
  return p.b.dtype == DType::f32 ? Layout{8, 8, 1} : Layout{16, 16, 2};
}

/// Of 9 to 64 rows, those that leave most of the last 8 lanes empty are faster packed, as all are where
/// vectors have 8 lanes.
bool Suits(const Product& p) {
  if (kLanes == 8 || p.m <= 8) {
    const std::int64_t fewest = kLanes == 8 || p.b.dtype == DType::f32 ? 7 : 6;
    return p.m >= fewest && p.m <= 8;
  }
  return p.m <= kMostRowsInLanes && (p.m + 4) % 8 <= 4;
}

std::int64_t depth_of(const Product& p, std::int64_t parts) {
  return (p.k + parts * kSumDepth - 1) / (parts * kSumDepth) * kSumDepth;
}

std::int64_t Words(const Product& p) {
  const auto [lanes, rest, parts] = layout_of(p);
  // Behind them are rows that are scaled.
  return (p.m + lanes - 1) / lanes * lanes * depth_of(p, parts) + p.m * p.k;
}

void Turn(const Product& p, std::uint32_t* x) {
  const auto [lanes, rest, parts] = layout_of(p);
  const auto* a = static_cast<const float*>(p.a.data);
  std::int64_t stride = p.a.row_stride;
  if (p.a_scale != 1.0f || p.a.column_stride != 1) {
    auto* scaled = reinterpret_cast<float*>(x + Words(p) - p.m * p.k);
    for (std::int64_t i = 0; i < p.m; ++i) {
      for (std::int64_t k = 0; k < p.k; ++k) {
        scaled[i * p.k + k] = p.a_scale * a[i * stride + k * p.a.column_stride];
      }
    }
    a = scaled;
    stride = p.k;
  }
  const std::int64_t rows = lanes / parts;
  for (std::int64_t row = 0; row < p.m; row += rows) {
    const std::int64_t count = std::min(rows, p.m - row);
    turn_rows({.from = reinterpret_cast<const std::uint32_t*>(a + row * stride),
               .stride = stride,
               .rows = count,
               .words = p.k,
               .lanes = row > 0 && count <= rest ? rest : lanes,
               .parts = parts,
               .part_words = kSumDepth,
               .fetched = kLanes,
               .nothing = 0x80000000u},
              x + row * depth_of(p, 1));
  }
}

void Columns(const Product& p, const std::uint32_t* x, std::int64_t first, std::int64_t count) {
  dispatch(p.b.dtype, [&]<class T>() HWY_ATTR {
    using Eight = FloatOps<T, 8>;
#if HWY_TARGET <= HWY_AVX3
    using Sixteen = FloatOps<T, 16>;
    if (p.m > 8) return multiply_columns<Sixteen, Eight, 1, 16>(p, x, first, count);
    if constexpr (sizeof(T) == 2) {
      return multiply_columns<Sixteen, Sixteen, 2, 8>(p, x, first, count);
    }
#endif
    if constexpr (kLanes == 8 || sizeof(T) == 4) {
      multiply_columns<Eight, Eight, 1, 12>(p, x, first, count);
    }
  });
}

LanesFormat Lanes() {
  return {.suits = Suits, .words = Words, .turn = Turn, .columns = Columns};
}

#else

LanesFormat Lanes() {
  return {};
}

#endif

}  // namespace HWY_NAMESPACE
}  // namespace quire::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace quire::cpu {

HWY_EXPORT(Lanes);

LanesFormat float_lanes() {
  return HWY_DYNAMIC_DISPATCH(Lanes)();
}

}  // namespace quire::cpu
#endif

// Rows in lanes, where a word of x or of the weight is two neighbours of k in bfloat16: VDPBF16PS takes
// such words of x by rows and one of the weight, broadcast. All else is as in lanes.cpp.
//
// Behind the end of x its words are two of -0, and the weight's are 0: such a product is -0 and leaves any
// sum as it is, one that was flushed to -0 too.
#include "kernels/cpu/gemm_bf16.h"
#include "kernels/cpu/lanes.h"

#if defined(__x86_64__) && !defined(HWY_COMPILE_ONLY_SCALAR)

#include <algorithm>
#include <cstring>

#include "hwy/base.h"
#include "kernels/cpu/bf16-inl.h"

namespace quire::cpu {
namespace {

using namespace bf16;

/// Rows [first_row, first_row + rows) of columns [first, first + columns) of c, from sums[column][stride]
/// and the bias.
QUIRE_BF16 void put_columns_of(const Product& p, const float* sums, std::int64_t stride,
                               std::int64_t first_row, std::int64_t rows, std::int64_t first,
                               std::int64_t columns) {
  const __mmask16 of_rows = first_lanes(rows);
  for (std::int64_t j = 0; j < columns; j += kLanes) {
    const __mmask16 some = first_lanes(columns - j);
    __m512i block[kLanes];
#pragma GCC unroll 16
    for (std::int64_t i = 0; i < kLanes; ++i) {
      const __mmask16 lanes = j + i < columns ? of_rows : 0;
      block[i] = _mm512_castps_si512(load(sums + (j + i) * stride, lanes));
    }
    transpose(block);
    float* c = p.c + first_row * p.c_stride + first + j;
#pragma GCC unroll 16
    for (std::int64_t row = 0; row < kLanes; ++row) {
      if (row >= rows) break;
      __m512 sum = _mm512_castsi512_ps(block[row]);
      if (p.bias != nullptr) sum = _mm512_add_ps(sum, load(p.bias + first + j, some));
      _mm512_mask_storeu_ps(c + row * p.c_stride, some, sum);
    }
  }
}

HWY_PUSH_ATTRIBUTES("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")
#include "kernels/cpu/lanes-inl.h"
HWY_POP_ATTRIBUTES

struct Ops {
  using Element = BFloat16;
  using Vector = __m512;
  static constexpr std::int64_t kWordDepth = 2;
  static constexpr std::int64_t kPartWords = kBf16SumDepth / 2;
  static constexpr std::int64_t kFetched = bf16::kLanes;
  static constexpr bool kMasks = true;
  static constexpr std::int64_t kLanes = bf16::kLanes;

  QUIRE_BF16_INLINE static Vector zero() { return _mm512_setzero_ps(); }
  QUIRE_BF16_INLINE static Vector load(const std::uint32_t* words) {
    return _mm512_loadu_ps(words);
  }
  template <int kParts>
  QUIRE_BF16_INLINE static Vector broadcast(const std::uint32_t* words) {
    if constexpr (kParts == 1) {
      return _mm512_castsi512_ps(_mm512_set1_epi32(static_cast<std::int32_t>(*words)));
    } else {
      std::int64_t together;
      std::memcpy(&together, words, sizeof(together));
      return _mm512_castsi512_ps(_mm512_set1_epi64(together));
    }
  }
  QUIRE_BF16_INLINE static Vector multiply_add(Vector x, Vector w, Vector sum) {
    return _mm512_dpbf16_ps(sum, pairs(_mm512_castps_si512(x)), pairs(_mm512_castps_si512(w)));
  }

  QUIRE_BF16_INLINE static __m512i some(const BFloat16* from, std::int64_t left) {
    const Elements elements = left <= 0 ? 0 : first_elements(left);
    return _mm512_maskz_loadu_epi16(elements, from);
  }
  template <int kParts>
  QUIRE_BF16_INLINE static void fetch(const BFloat16* from, std::int64_t left, std::uint32_t* to) {
    const __m512i here = some(from, left);
    if constexpr (kParts == 1) {
      _mm512_storeu_si512(to, here);
    } else {
      const __m512i there = some(from + kBf16SumDepth, left - kBf16SumDepth);
      _mm512_storeu_si512(to, _mm512_unpacklo_epi32(here, there));
      _mm512_storeu_si512(to + kFetched, _mm512_unpackhi_epi32(here, there));
    }
  }

  template <int kParts>
  QUIRE_BF16_INLINE static void add(Vector a, Vector b, std::int64_t parts, bool first, float* to) {
    if constexpr (kParts == 1) {
      _mm512_storeu_ps(to, first ? a : _mm512_add_ps(_mm512_loadu_ps(to), a));
      to += kLanes;
      _mm512_storeu_ps(to, first ? b : _mm512_add_ps(_mm512_loadu_ps(to), b));
    } else {
      const __m512i even =
          _mm512_set_epi32(30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
      const __m512i odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
      Vector sum = _mm512_permutex2var_ps(a, even, b);
      if (!first) sum = _mm512_add_ps(_mm512_loadu_ps(to), sum);
      if (parts == 2) sum = _mm512_add_ps(sum, _mm512_permutex2var_ps(a, odd, b));
      _mm512_storeu_ps(to, sum);
    }
  }
};

std::int64_t parts_of(const Product& p) {
  return p.m <= 8 ? 2 : 1;
}

/// On a Zen 5, one thread, weights out of memory, against those transposed in registers or packed: of K 768, 8
/// rows read 32 to 34 GB/s, not 28, and 5 rows 33, not 25; but of K 3072, where x does not stay in the
/// first-level cache, 22, not 29, and of 1024, which fills its last block by two thirds, 27, not 28. Of K 768 to
/// 3072, 9 rows read 22, not 19, 16 rows 23, not 18.5, and 32 rows 12.5, not 11.5; 24 rows lose a tenth in cache,
/// and 48 and 64 gain next to nothing.
bool suits(const Product& p) {
  constexpr std::int64_t kBlock = 2 * kBf16SumDepth;
  if (p.m <= 8) return p.m >= 5 && p.k % kBlock == 0 && p.k <= 2 * kBlock;
  return (p.m <= kLanes || (p.m >= 28 && p.m <= 2 * kLanes)) && p.k >= 2 * kBlock;
}

/// Of a lane.
std::int64_t panel_words(const Product& p) {
  const std::int64_t depth = parts_of(p) * kBf16SumDepth;
  return (p.k + depth - 1) / depth * Ops::kPartWords;
}

std::int64_t words(const Product& p) {
  return (p.m + kLanes - 1) / kLanes * kLanes * panel_words(p);
}

/// Words of x from k on of which `left` k are left, at most 16 of them: what stands behind them is -0.
QUIRE_BF16_INLINE __m512i words_of_row(const float* x, std::int64_t left, __m512 factor) {
  const __m512 low = load(x, first_lanes(left)),
               high = load(x + kLanes, first_lanes(left - kLanes));
  return _mm512_mask_blend_epi32(first_lanes((left + 1) / 2),
                                 _mm512_set1_epi32(static_cast<std::int32_t>(0x80008000u)),
                                 rounded(_mm512_mul_ps(low, factor), _mm512_mul_ps(high, factor)));
}

/// x[panel of rows][block of parts][word][lane]: lane `parts`·row + part.
QUIRE_BF16 void turn(const Product& p, std::uint32_t* x) {
  const std::int64_t parts = parts_of(p), rows = kLanes / parts;
  const __m512 factor = _mm512_set1_ps(p.a_scale);
  for (std::int64_t first = 0; first < p.m; first += rows) {
    for (std::int64_t begin = 0; begin < p.k; begin += parts * kBf16SumDepth) {
      for (std::int64_t k = begin; k < begin + kBf16SumDepth; k += kLine, x += kLanes * kLanes) {
        __m512i block[kLanes];
#pragma GCC unroll 16
        for (std::int64_t lane = 0; lane < kLanes; ++lane) {
          const std::int64_t row = std::min(first + lane / parts, p.m - 1);
          const std::int64_t at = k + lane % parts * kBf16SumDepth;
          block[lane] = words_of_row(
              static_cast<const float*>(p.a.data) + row * p.a.row_stride + at, p.k - at, factor);
        }
        transpose(block);
#pragma GCC unroll 16
        for (std::int64_t i = 0; i < kLanes; ++i) _mm512_storeu_si512(x + i * kLanes, block[i]);
      }
    }
  }
}

void columns(const Product& p, const std::uint32_t* x, std::int64_t first, std::int64_t count) {
  p.m <= 8 ? multiply_columns<Ops, Ops, 2, 8>(p, x, first, count)
           : multiply_columns<Ops, Ops, 1, 16>(p, x, first, count);
}

}  // namespace

LanesFormat bf16_lanes() {
  return {.suits = suits, .words = words, .turn = turn, .columns = columns};
}

}  // namespace quire::cpu

#else

#include "base/error.h"

namespace quire::cpu {

LanesFormat bf16_lanes() {
  throw Error(Fault::internal, "a product in bfloat16 where the processor has none");
}

}  // namespace quire::cpu

#endif

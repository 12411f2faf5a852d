// Few rows in the order of TDPBF16PS (gemm_amx.h), by fused multiply-adds of vectors: even and odd k
// have chains of their own for a step of 32 k, and both are then added to the sum, with subnormal
// numbers counted as zero, as tiles count them. A memory's speed is reached so, too, and a row has the
// bits that tiles give it among many.
//
// Where b's rows are contiguous, a line of 32 columns is widened in two halves, which leaves the sums
// in the order of stream_bf16.cpp: its add_parts adds them.
#include "kernels/cpu/gemm_amx.h"
#include "kernels/cpu/stream.h"

#if defined(__x86_64__) && !defined(HWY_COMPILE_ONLY_SCALAR)

#include <array>
#include <utility>

#include "kernels/cpu/bf16-inl.h"

namespace quire::cpu {
namespace {

using namespace bf16;

constexpr std::int64_t kStep = 32;  // k; and those of a line where columns are contiguous

/// As long as it lives, subnormal operands and results are zero.
class FlushesSubnormals {
 public:
  FlushesSubnormals() : before_(_mm_getcsr()) {
    constexpr unsigned kFlushToZero = 1u << 15, kDenormalsAreZero = 1u << 6;
    _mm_setcsr(before_ | kFlushToZero | kDenormalsAreZero);
  }
  FlushesSubnormals(const FlushesSubnormals&) = delete;
  FlushesSubnormals& operator=(const FlushesSubnormals&) = delete;
  ~FlushesSubnormals() { _mm_setcsr(before_); }

 private:
  unsigned before_;
};

/// The upper halves of words are floats in bfloat16, the lower ones too when they are moved up.
QUIRE_BF16_INLINE __m512 upper(__m512i words) {
  return _mm512_castsi512_ps(_mm512_and_si512(words, _mm512_set1_epi32(-0x10000)));
}
QUIRE_BF16_INLINE __m512 lower(__m512i words) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(words, 16));
}

/// x[k][m], rounded to bfloat16 and wide again: what one k of b meets lies together.
QUIRE_BF16 void round_rows(const Product& p, void* words) {
  const __m512 factor = _mm512_set1_ps(p.a_scale);
  for (std::int64_t m = 0; m < p.m; ++m) {
    const float* row = static_cast<const float*>(p.a.data) + m * p.a.row_stride;
    float* x = static_cast<float*>(words) + m;
    for (std::int64_t k = 0; k < p.k; k += 2 * kLanes) {
      const __m512 low = load(row + k, first_lanes(p.k - k));
      const __m512 high = load(row + k + kLanes, first_lanes(p.k - k - kLanes));
      const __m512i both = rounded(_mm512_mul_ps(low, factor), _mm512_mul_ps(high, factor));
      alignas(64) float even[kLanes], odd[kLanes];
      _mm512_store_ps(even, lower(both));
      _mm512_store_ps(odd, upper(both));
      const std::int64_t count = std::min(2 * kLanes, p.k - k);
      for (std::int64_t i = 0; i < count; ++i) x[(k + i) * p.m] = (i % 2 == 0 ? even : odd)[i / 2];
    }
  }
}

/// sum + (even + odd). Where the step is short, tiles have gone on with zeros: that leaves a chain as
/// it is, or makes -0 to 0.
QUIRE_BF16_INLINE __m512 with_step(__m512 sum, __m512 even, __m512 odd, bool is_short) {
  if (is_short) {
    even = _mm512_add_ps(even, _mm512_setzero_ps());
    odd = _mm512_add_ps(odd, _mm512_setzero_ps());
  }
  return _mm512_add_ps(sum, _mm512_add_ps(even, odd));
}

// ---- b's rows are contiguous

/// Where sums of a line of columns lie, one row behind the other.
struct Sums {
  float* at;
  std::int64_t stride;
};

/// Rows k and on of b, by one chain for each row of x and half a line.
template <int kM>
QUIRE_BF16_INLINE void add_row(const float* x, __m512i line, __m512 (&low)[kM],
                               __m512 (&high)[kM]) {
  const __m512 of_low = _mm512_castsi512_ps(_mm512_unpacklo_epi16(_mm512_setzero_si512(), line));
  const __m512 of_high = _mm512_castsi512_ps(_mm512_unpackhi_epi16(_mm512_setzero_si512(), line));
#pragma GCC unroll 8
  for (int m = 0; m < kM; ++m) {
    const __m512 factor = _mm512_set1_ps(x[m]);
    low[m] = _mm512_fmadd_ps(factor, of_low, low[m]);
    high[m] = _mm512_fmadd_ps(factor, of_high, high[m]);
  }
}

/// Adds a step of `depth` rows of b to the sums of a line of columns.
template <int kM>
QUIRE_BF16_INLINE void add_step(const float* x, const BFloat16* b, std::int64_t stride,
                                std::int64_t depth, Elements some, Sums sums) {
  __m512 even[2][kM], odd[2][kM];
#pragma GCC unroll 8
  for (int m = 0; m < kM; ++m) {
    even[0][m] = even[1][m] = odd[0][m] = odd[1][m] = _mm512_setzero_ps();
  }
  std::int64_t k = 0;
  for (; k + 2 <= depth; k += 2, b += 2 * stride, x += 2 * kM) {
    add_row<kM>(x, _mm512_maskz_loadu_epi16(some, b), even[0], even[1]);
    add_row<kM>(x + kM, _mm512_maskz_loadu_epi16(some, b + stride), odd[0], odd[1]);
  }
  if (k < depth) add_row<kM>(x, _mm512_maskz_loadu_epi16(some, b), even[0], even[1]);
#pragma GCC unroll 8
  for (int m = 0; m < kM; ++m) {
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half) {
      float* at = sums.at + m * sums.stride + half * kLanes;
      _mm512_storeu_ps(at,
                       with_step(_mm512_loadu_ps(at), even[half][m], odd[half][m], depth < kStep));
    }
  }
}

/// Rows of b go onto the sums a step at a time, while those of the next are asked for, from end to
/// end, but none behind the part: another thread may have them.
template <int kM>
QUIRE_BF16 void stream_rows(const Product& p, const float* x, const BFloat16* b, std::int64_t depth,
                            std::int64_t count, Sums sums) {
  const std::int64_t stride = p.b.row_stride;
  for (std::int64_t k = 0; k < depth; k += kStep, x += kStep * kM, b += kStep * stride) {
    Ahead ahead = {.first = reinterpret_cast<const std::byte*>(b + kStep * stride),
                   .rows = std::clamp<std::int64_t>(depth - k - kStep, 0, kStep),
                   .bytes = count * static_cast<std::int64_t>(sizeof(BFloat16)),
                   .stride = stride * static_cast<std::int64_t>(sizeof(BFloat16))};
    for (std::int64_t j = 0; j < count; j += kLine) {
      ahead.ask(kStep);
      add_step<kM>(x, b + j, stride, std::min(kStep, depth - k), first_elements(count - j),
                   {sums.at + j, sums.stride});
    }
  }
}

// ---- b's columns are contiguous

/// Adds a step of 16 columns, of which there are `columns`, to their sums.
template <int kM>
QUIRE_BF16_INLINE void add_block(const float* x, const BFloat16* b, std::int64_t stride,
                                 std::int64_t columns, std::int64_t depth, __m512 (&sums)[kM]) {
  const Elements some = first_elements(depth);
  __m512i block[kLanes];
#pragma GCC unroll 16
  for (std::int64_t lane = 0; lane < kLanes; ++lane) {
    block[lane] = _mm512_maskz_loadu_epi16(lane < columns ? some : 0, b + lane * stride);
  }
  transpose(block);
  __m512 even[kM], odd[kM];
#pragma GCC unroll 8
  for (int m = 0; m < kM; ++m) even[m] = odd[m] = _mm512_setzero_ps();
#pragma GCC unroll 16
  for (std::int64_t i = 0; i < kLanes; ++i) {
    if (2 * i >= depth) break;
    const float* at = x + 2 * i * kM;
#pragma GCC unroll 8
    for (int m = 0; m < kM; ++m) {
      even[m] = _mm512_fmadd_ps(_mm512_set1_ps(at[m]), lower(block[i]), even[m]);
    }
    if (2 * i + 1 >= depth) break;
#pragma GCC unroll 8
    for (int m = 0; m < kM; ++m) {
      odd[m] = _mm512_fmadd_ps(_mm512_set1_ps(at[kM + m]), upper(block[i]), odd[m]);
    }
  }
#pragma GCC unroll 8
  for (int m = 0; m < kM; ++m) sums[m] = with_step(sums[m], even[m], odd[m], depth < kStep);
}

/// One part for kGroups times 16 columns from `b` on, all of which there are unless kGroups is 1:
/// sums[group][m][16]. What lies at `next` is asked for meanwhile, from end to end. Not inlined: it
/// counts subnormal numbers as zero, what surrounds it does not.
template <int kM, int kGroups>
QUIRE_BF16 __attribute__((noinline)) void sum_part(const float* x, const BFloat16* b,
                                                   std::int64_t stride, std::int64_t columns,
                                                   std::int64_t depth, const BFloat16* next,
                                                   float* to) {
  constexpr std::int64_t kColumns = kGroups * kLanes;
  __m512 sums[kGroups][kM];
#pragma GCC unroll 2
  for (int g = 0; g < kGroups; ++g) {
#pragma GCC unroll 8
    for (int m = 0; m < kM; ++m) sums[g][m] = _mm512_setzero_ps();
  }
  for (std::int64_t i = 0; i < depth; i += kStep) {
    for (std::int64_t line = 0; line < kColumns; ++line) {
      __builtin_prefetch(next + i * kColumns + line * kLine, 0, 2);
    }
#pragma GCC unroll 2
    for (int g = 0; g < kGroups; ++g) {
      add_block<kM>(x + i * kM, b + g * kLanes * stride + i, stride, columns - g * kLanes,
                    depth - i, sums[g]);
    }
  }
#pragma GCC unroll 2
  for (int g = 0; g < kGroups; ++g) {
#pragma GCC unroll 8
    for (int m = 0; m < kM; ++m) _mm512_storeu_ps(to + (g * kM + m) * kLanes, sums[g][m]);
  }
}

template <int kM, int kGroups>
QUIRE_BF16 void stream_group(const Product& p, const float* x, std::int64_t j,
                             std::int64_t columns) {
  const std::int64_t stride = p.b.column_stride;
  const BFloat16* b = static_cast<const BFloat16*>(p.b.data) + j * stride;
  const BFloat16* next = b + kGroups * kLanes * stride;
  for (std::int64_t k = 0; k < p.k; k += kAmxSumDepth) {
    const std::int64_t depth = std::min(kAmxSumDepth, p.k - k);
    alignas(64) float sums[kGroups * kM * kLanes];
    {
      const FlushesSubnormals flushes;
      sum_part<kM, kGroups>(x + k * kM, b + k, stride, columns, depth, next + k * kGroups * kLanes,
                            sums);
    }
    for (int g = 0; g < kGroups; ++g) {
      const __mmask16 lanes = first_lanes(columns - g * kLanes);
      for (int m = 0; m < kM; ++m) {
        float* c = p.c + m * p.c_stride + j + g * kLanes;
        __m512 sum = _mm512_load_ps(sums + (g * kM + m) * kLanes);
        if (k > 0 || p.output == Product::Output::accumulate) {
          sum = _mm512_add_ps(load(c, lanes), sum);
        }
        if (p.bias != nullptr && k + depth == p.k) {
          sum = _mm512_add_ps(sum, load(p.bias + j + g * kLanes, lanes));
        }
        _mm512_mask_storeu_ps(c, lanes, sum);
      }
    }
  }
}

template <int kM>
QUIRE_BF16 void stream_columns(const Product& p, const float* x, std::int64_t first,
                               std::int64_t count) {
  // One row alone has no sums beside its own that would hide their latency.
  constexpr int kGroups = kM == 1 ? 2 : 1;
  std::int64_t j = first;
  const std::int64_t end = first + count;
  for (; j + kGroups * kLanes <= end; j += kGroups * kLanes) {
    stream_group<kM, kGroups>(p, x, j, kGroups * kLanes);
  }
  for (; j < end; j += kLanes) stream_group<kM, 1>(p, x, j, std::min(kLanes, end - j));
}

// ---- one function for each number of rows

template <int... kRows>
constexpr auto row_streams(std::integer_sequence<int, kRows...> /*rows*/) {
  return std::array{stream_rows<kRows + 1>...};
}
template <int... kRows>
constexpr auto column_streams(std::integer_sequence<int, kRows...> /*rows*/) {
  return std::array{stream_columns<kRows + 1>...};
}
constexpr auto kRowStreams = row_streams(std::make_integer_sequence<int, kFewRows>());
constexpr auto kColumnStreams = column_streams(std::make_integer_sequence<int, kFewRows>());

void rows(const Product& p, const void* x, std::int64_t first_k, std::int64_t depth,
          std::int64_t first, std::int64_t count, float* sums) {
  const std::int64_t stride = (p.n + kLine - 1) / kLine * kLine;
  const std::int64_t padded = (count + kLine - 1) / kLine * kLine;
  for (std::int64_t m = 0; m < p.m; ++m) std::fill_n(sums + m * stride + first, padded, 0.0f);
  const FlushesSubnormals flushes;
  kRowStreams[static_cast<std::size_t>(p.m - 1)](
      p, static_cast<const float*>(x) + first_k * p.m,
      static_cast<const BFloat16*>(p.b.data) + first_k * p.b.row_stride + first, depth, count,
      {sums + first, stride});
}

void columns(const Product& p, const void* x, std::int64_t first, std::int64_t count) {
  kColumnStreams[static_cast<std::size_t>(p.m - 1)](p, static_cast<const float*>(x), first, count);
}

}  // namespace

StreamedFormat amx_streams() {
  return {.word_depth = 1,
          .sum_depth = kAmxSumDepth,
          .sum_columns = kLine,
          .prepare = round_rows,
          .rows = rows,
          .add_parts = bf16_streams().add_parts,
          .columns = columns};
}

}  // namespace quire::cpu

#else

namespace quire::cpu {

StreamedFormat amx_streams() {
  throw Error(Fault::internal, "a product in the order of AMX where the processor has none");
}

}  // namespace quire::cpu

#endif

// VDPBF16PS wants two neighbours of k beside each other. Where b's rows are contiguous, those of two
// rows are interleaved in registers, which leaves 32 columns in the order 0-3, 8-11, …, 4-7, 12-15, …:
// the sums of a part keep it until they are added. Where its columns are, a line of each of 16
// columns is 16 words of it, and 16 by 16 words are transposed.
#include "kernels/cpu/gemm_bf16.h"
#include "kernels/cpu/stream.h"

#if defined(__x86_64__) && !defined(HWY_COMPILE_ONLY_SCALAR)

#include <array>
#include <utility>

#include "kernels/cpu/bf16-inl.h"

namespace quire::cpu {
namespace {

using namespace bf16;

constexpr std::int64_t words_of(std::int64_t depth) {
  return (depth + 1) / 2;
}

/// x[word][m]: what one word of b meets lies together.
QUIRE_BF16 void round_rows(const Product& p, void* words) {
  const __m512 factor = _mm512_set1_ps(p.a_scale);
  for (std::int64_t m = 0; m < p.m; ++m) {
    const float* row = static_cast<const float*>(p.a.data) + m * p.a.row_stride;
    auto* x = static_cast<std::uint32_t*>(words) + m;
    for (std::int64_t k = 0; k < p.k; k += 2 * kLanes) {
      const __m512 low = load(row + k, first_lanes(p.k - k));
      const __m512 high = load(row + k + kLanes, first_lanes(p.k - k - kLanes));
      alignas(64) std::uint32_t together[kLanes];
      _mm512_store_si512(together,
                         rounded(_mm512_mul_ps(low, factor), _mm512_mul_ps(high, factor)));
      const std::int64_t count = std::min(kLanes, words_of(p.k - k));
      for (std::int64_t i = 0; i < count; ++i) x[(k / 2 + i) * p.m] = together[i];
    }
  }
}

// ---- b's rows are contiguous

/// Where sums of a line of columns lie, one row behind the other.
struct Sums {
  float* at;
  std::int64_t stride;
};

/// Adds kPairs pairs of rows of b, of the last of which there may be one row, to the sums of a line
/// of columns.
template <int kM, int kPairs>
QUIRE_BF16_INLINE void add_pairs(const std::uint32_t* x, const BFloat16* b, std::int64_t stride,
                                 bool odd, Elements some, Sums sums) {
  __m512 low[kM], high[kM];
#pragma GCC unroll 8
  for (int m = 0; m < kM; ++m) {
    low[m] = _mm512_loadu_ps(sums.at + m * sums.stride);
    high[m] = _mm512_loadu_ps(sums.at + m * sums.stride + kLanes);
  }
#pragma GCC unroll 8
  for (int i = 0; i < kPairs; ++i, b += 2 * stride, x += kM) {
    const __m512i first = _mm512_maskz_loadu_epi16(some, b);
    const __m512i second = _mm512_maskz_loadu_epi16(odd && i == kPairs - 1 ? 0 : some, b + stride);
    const __m512bh of_low = pairs(_mm512_unpacklo_epi16(first, second));
    const __m512bh of_high = pairs(_mm512_unpackhi_epi16(first, second));
#pragma GCC unroll 8
    for (int m = 0; m < kM; ++m) {
      const __m512bh factor = broadcast(x + m);
      low[m] = _mm512_dpbf16_ps(low[m], factor, of_low);
      high[m] = _mm512_dpbf16_ps(high[m], factor, of_high);
    }
  }
#pragma GCC unroll 8
  for (int m = 0; m < kM; ++m) {
    _mm512_storeu_ps(sums.at + m * sums.stride, low[m]);
    _mm512_storeu_ps(sums.at + m * sums.stride + kLanes, high[m]);
  }
}

/// Rows of b go onto the sums sixteen at a time, while the next sixteen are asked for, from end to
/// end, but none behind the part: another thread may have them.
template <int kM>
QUIRE_BF16 void stream_rows(const Product& p, const std::uint32_t* x, const BFloat16* b,
                            std::int64_t depth, std::int64_t count, float* sums,
                            std::int64_t sums_stride) {
  constexpr int kPairs = 8;
  const std::int64_t stride = p.b.row_stride;
  std::int64_t k = 0;
  for (; k + 2 * kPairs <= depth; k += 2 * kPairs, x += kPairs * kM) {
    const BFloat16* rows = b + k * stride;
    const BFloat16* next = rows + 2 * kPairs * stride;
    const int lines = k + 4 * kPairs <= depth ? 2 * kPairs : 0;
    std::int64_t column = 0, j = 0;
    for (; j + kLine <= count; j += kLine) {
      for (int line = 0; line < lines; ++line) {
        __builtin_prefetch(next + column, 0, 2);
        column += kLine;
        if (column >= count) {
          column = 0;
          next += stride;
        }
      }
      add_pairs<kM, kPairs>(x, rows + j, stride, false, ~Elements{0}, {sums + j, sums_stride});
    }
    if (j < count) {
      add_pairs<kM, kPairs>(x, rows + j, stride, false, first_elements(count - j),
                            {sums + j, sums_stride});
    }
  }
  for (; k < depth; k += 2, x += kM) {
    for (std::int64_t j = 0; j < count; j += kLine) {
      add_pairs<kM, 1>(x, b + k * stride + j, stride, k + 1 == depth, first_elements(count - j),
                       {sums + j, sums_stride});
    }
  }
}

QUIRE_BF16 void add_parts(const Product& p, const float* sums, std::int64_t parts,
                          std::int64_t first, std::int64_t count) {
  const bool accumulate = p.output == Product::Output::accumulate;
  const std::int64_t stride = (p.n + kLine - 1) / kLine * kLine;
  for (std::int64_t m = 0; m < p.m; ++m) {
    for (std::int64_t j = first; j < first + count; j += kLine) {
      const __mmask16 lanes[2] = {first_lanes(first + count - j),
                                  first_lanes(first + count - j - kLanes)};
      float* c = p.c + m * p.c_stride + j;
      __m512 total[2] = {load(c, accumulate ? lanes[0] : 0),
                         load(c + kLanes, accumulate ? lanes[1] : 0)};
      for (std::int64_t part = 0; part < parts; ++part) {
        const float* from = sums + (part * p.m + m) * stride + j;
        __m512 sum[2] = {_mm512_loadu_ps(from), _mm512_loadu_ps(from + kLanes)};
        put_in_order(sum[0], sum[1]);
        for (int half = 0; half < 2; ++half) {
          total[half] = part > 0 || accumulate ? _mm512_add_ps(total[half], sum[half]) : sum[half];
        }
      }
      for (int half = 0; half < 2; ++half) {
        if (p.bias != nullptr) {
          total[half] = _mm512_add_ps(total[half], load(p.bias + j + half * kLanes, lanes[half]));
        }
        _mm512_mask_storeu_ps(c + half * kLanes, lanes[half], total[half]);
      }
    }
  }
}

// ---- b's columns are contiguous

/// Adds words [0, words) of 16 columns, of which there are `columns`, to their sums.
template <int kM>
QUIRE_BF16_INLINE void add_block(const std::uint32_t* x, const BFloat16* b, std::int64_t stride,
                                 std::int64_t columns, std::int64_t depth, __m512 (&sums)[kM]) {
  const Elements some = first_elements(depth);
  __m512i block[kLanes];
#pragma GCC unroll 16
  for (std::int64_t lane = 0; lane < kLanes; ++lane) {
    block[lane] = _mm512_maskz_loadu_epi16(lane < columns ? some : 0, b + lane * stride);
  }
  transpose(block);
  const std::int64_t words = words_of(depth);
#pragma GCC unroll 16
  for (std::int64_t i = 0; i < kLanes; ++i) {
    if (i >= words) return;
#pragma GCC unroll 8
    for (int m = 0; m < kM; ++m) {
      sums[m] = _mm512_dpbf16_ps(sums[m], broadcast(x + i * kM + m), pairs(block[i]));
    }
  }
}

/// kGroups times 16 columns of c, from `j` on, all of which there are unless kGroups is 1. What comes
/// next is asked for meanwhile, from end to end.
template <int kM, int kGroups>
QUIRE_BF16 void stream_group(const Product& p, const std::uint32_t* x, std::int64_t j,
                             std::int64_t columns) {
  constexpr std::int64_t kColumns = kGroups * kLanes;
  const std::int64_t stride = p.b.column_stride;
  const BFloat16* b = static_cast<const BFloat16*>(p.b.data) + j * stride;
  const BFloat16* next = b + kColumns * stride;
  for (std::int64_t k = 0; k < p.k; k += kBf16SumDepth) {
    const std::int64_t depth = std::min(kBf16SumDepth, p.k - k);
    __m512 sums[kGroups][kM];
#pragma GCC unroll 2
    for (int g = 0; g < kGroups; ++g) {
#pragma GCC unroll 8
      for (int m = 0; m < kM; ++m) sums[g][m] = _mm512_setzero_ps();
    }
    for (std::int64_t i = 0; i < depth; i += kLine) {
      for (std::int64_t line = 0; line < kColumns; ++line) {
        __builtin_prefetch(next + (k + i) * kColumns + line * kLine, 0, 2);
      }
#pragma GCC unroll 2
      for (int g = 0; g < kGroups; ++g) {
        add_block<kM>(x + (k + i) / 2 * kM, b + g * kLanes * stride + k + i, stride,
                      columns - g * kLanes, depth - i, sums[g]);
      }
    }
#pragma GCC unroll 2
    for (int g = 0; g < kGroups; ++g) {
      const __mmask16 lanes = first_lanes(columns - g * kLanes);
#pragma GCC unroll 8
      for (int m = 0; m < kM; ++m) {
        float* c = p.c + m * p.c_stride + j + g * kLanes;
        __m512 sum = sums[g][m];
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
QUIRE_BF16 void stream_columns(const Product& p, const std::uint32_t* x, std::int64_t first,
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
  kRowStreams[static_cast<std::size_t>(p.m - 1)](
      p, static_cast<const std::uint32_t*>(x) + first_k / 2 * p.m,
      static_cast<const BFloat16*>(p.b.data) + first_k * p.b.row_stride + first, depth, count,
      sums + first, stride);
}

void columns(const Product& p, const void* x, std::int64_t first, std::int64_t count) {
  kColumnStreams[static_cast<std::size_t>(p.m - 1)](p, static_cast<const std::uint32_t*>(x), first,
                                                    count);
}

}  // namespace

StreamedFormat bf16_streams() {
  return {.word_depth = 2,
          .sum_depth = kBf16SumDepth,
          .sum_columns = kLine,
          .prepare = round_rows,
          .rows = rows,
          .add_parts = add_parts,
          .columns = columns};
}

}  // namespace quire::cpu

#else

namespace quire::cpu {

StreamedFormat bf16_streams() {
  throw Error(Fault::internal, "a product in bfloat16 where the processor has none");
}

}  // namespace quire::cpu

#endif

#include "kernels/cpu/stream.h"

#include <algorithm>
#include <type_traits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/stream.cpp"
#include "hwy/cache_control.h"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "kernels/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace quire::cpu {
namespace HWY_NAMESPACE {

template <class T>
constexpr int64_t kLine = 64 / sizeof(T);  // elements of a cache line

// ---- b's rows are contiguous

// The sums of a whole row stay in level-1 cache and are added onto, row of b by row of b: nothing
// but a straight read of memory. The hardware's own prefetching loses the thread among the sums,
// hence the prefetch, 8 KB ahead at least.
template <class T>
void StreamRow(const Product& p, const float* x, const T* b, int64_t depth, int64_t count,
               float* sums) {
  const int64_t stride = p.b.row_stride;
  constexpr int64_t kAhead = 8192 / sizeof(T);
  const int64_t ahead = (kAhead + count - 1) / count * stride;
  constexpr int64_t kStep = 4 * kLanes;
  for (int64_t k = 0; k < depth; ++k) {
    const T* row = b + k * stride;
    const Vec factor = set(x[k]);
    int64_t j = 0;
    for (; j + kStep <= count; j += kStep) {
      for (int64_t line = 0; line < kStep; line += kLine<T>) hwy::Prefetch(row + ahead + j + line);
      for (int64_t v = 0; v < kStep; v += kLanes) {
        store(hn::MulAdd(factor, load(row + j + v), load(sums + j + v)), sums + j + v);
      }
    }
    for_vectors(count - j, [&](int64_t v, int64_t lanes) QUIRE_INLINE_LAMBDA {
      store(hn::MulAdd(factor, load(row + j + v, lanes), load(sums + j + v, lanes)), sums + j + v,
            lanes);
    });
  }
}

// Several rows of x would load and store their sums too often: eight rows of b go onto each, and
// the next eight are prefetched from end to end meanwhile.
constexpr int64_t kRowsAtOnce = 8;

template <class T, int kM>
HWY_INLINE void AddRows(const Product& p, const float* x, const T* rows, int64_t depth, int64_t j,
                        int64_t lanes, float* sums) {
  Vec sum[kM];
  for (int m = 0; m < kM; ++m) sum[m] = load(sums + m * p.n + j, lanes);
  for (int64_t r = 0; r < depth; ++r) {
    const Vec w = load(rows + r * p.b.row_stride + j, lanes);
    for (int m = 0; m < kM; ++m) sum[m] = hn::MulAdd(set(x[m * p.k + r]), w, sum[m]);
  }
  for (int m = 0; m < kM; ++m) store(sum[m], sums + m * p.n + j, lanes);
}

template <class T, int kM>
void StreamRowsOf(const Product& p, const float* x, const T* b, int64_t depth, int64_t count,
                  float* sums) {
  const int64_t stride = p.b.row_stride;
  for (int64_t k = 0; k < depth; k += kRowsAtOnce) {
    const T* rows = b + k * stride;
    const T* next = rows + kRowsAtOnce * stride;
    if (k + kRowsAtOnce > depth) {
      for_vectors(count, [&](int64_t j, int64_t lanes) QUIRE_INLINE_LAMBDA {
        AddRows<T, kM>(p, x + k, rows, depth - k, j, lanes, sums);
      });
      return;
    }
    int64_t column = 0;
    for_vectors(count, [&](int64_t j, int64_t lanes) QUIRE_INLINE_LAMBDA {
      for (int64_t done = 0; done < kRowsAtOnce * kLanes; done += kLine<T>) {
        hwy::Prefetch(next + column);
        column += kLine<T>;
        if (column >= count) {
          column = 0;
          next += stride;
        }
      }
      AddRows<T, kM>(p, x + k, rows, kRowsAtOnce, j, lanes, sums);
    });
  }
}

// ---- b's columns are contiguous

// Four k of as many columns as a vector has lanes are transposed in registers: block i of slot s
// holds column 4·i + s, and a 4 by 4 transposition inside the blocks leaves
// each k's values in column order.
#if HWY_TARGET != HWY_SCALAR
template <class D, class T>
HWY_INLINE hn::Vec<D> LoadBlocks(D d, const T* p, int64_t block_stride) {
  if constexpr (hn::MaxLanes(D()) <= 4) {
    return load_as(d, p);
  } else {
    const hn::Half<D> half;
    const int64_t blocks = static_cast<int64_t>(hn::MaxLanes(D())) / 8;
    return hn::Combine(d, LoadBlocks(half, p + blocks * block_stride, block_stride),
                       LoadBlocks(half, p, block_stride));
  }
}

struct FourSteps {
  Vec k0, k1, k2, k3;
};

template <class T>
HWY_INLINE FourSteps LoadFourSteps(const T* p, int64_t stride) {
  const F32 d;
  Vec a = LoadBlocks(d, p, 4 * stride), b = LoadBlocks(d, p + stride, 4 * stride);
  Vec c = LoadBlocks(d, p + 2 * stride, 4 * stride), e = LoadBlocks(d, p + 3 * stride, 4 * stride);
  transpose_blocks(d, a, b, c, e);
  return {a, b, c, e};
}

HWY_INLINE Vec AddFourSteps(const float* x, const FourSteps& w, Vec sum) {
  sum = hn::MulAdd(set(x[0]), w.k0, sum);
  sum = hn::MulAdd(set(x[1]), w.k1, sum);
  sum = hn::MulAdd(set(x[2]), w.k2, sum);
  return hn::MulAdd(set(x[3]), w.k3, sum);
}

// One part of the sum for two vectors of columns (one chain of additions alone would wait for its
// own latency), added to c or, where it is the first, put there. Meanwhile the same share of the
// columns that come next is prefetched, from end to end.
template <class T, int kM>
HWY_INLINE void StreamColumnsPart(const Product& p, const float* x, const T* b, const T* next,
                                  int64_t depth, bool add, float* c) {
  const int64_t stride = p.b.column_stride;
  Vec left[kM], right[kM];
  for (int m = 0; m < kM; ++m) left[m] = right[m] = zero();
  int64_t k = 0;
  for (; k + 4 <= depth; k += 4) {
    for (int64_t i = 0; i < 8 * kLanes; i += kLine<T>) hwy::Prefetch(next + k * 2 * kLanes + i);
    const FourSteps l = LoadFourSteps(b + k, stride);
    const FourSteps r = LoadFourSteps(b + kLanes * stride + k, stride);
    for (int m = 0; m < kM; ++m) {
      left[m] = AddFourSteps(x + m * p.k + k, l, left[m]);
      right[m] = AddFourSteps(x + m * p.k + k, r, right[m]);
    }
  }
  for (; k < depth; ++k) {
    HWY_ALIGN float w[2 * kLanes];
    for (int64_t j = 0; j < 2 * kLanes; ++j) w[j] = to_float(b[j * stride + k]);
    for (int m = 0; m < kM; ++m) {
      left[m] = hn::MulAdd(set(x[m * p.k + k]), load(w), left[m]);
      right[m] = hn::MulAdd(set(x[m * p.k + k]), load(w + kLanes), right[m]);
    }
  }
  for (int m = 0; m < kM; ++m) {
    float* out = c + m * p.c_stride;
    store(add ? hn::Add(load(out), left[m]) : left[m], out);
    store(add ? hn::Add(load(out + kLanes), right[m]) : right[m], out + kLanes);
  }
}
#endif

template <class T, int kM>
void StreamColumnsOf(const Product& p, const float* x, int64_t first, int64_t count) {
  const T* b = static_cast<const T*>(p.b.data);
  const int64_t stride = p.b.column_stride;
  const bool accumulate = p.output == Product::Output::accumulate;
  int64_t j = first;
  const int64_t end = first + count;
#if HWY_TARGET != HWY_SCALAR
  constexpr int64_t kPair = 2 * kLanes;
  for (; j + kPair <= end; j += kPair) {
    const T* next = b + (j + kPair) * stride;
    for (int64_t k = 0; k < p.k; k += kSumDepth) {
      const int64_t depth = std::min(kSumDepth, p.k - k);
      StreamColumnsPart<T, kM>(p, x + k, b + j * stride + k, next + k * kPair, depth,
                               k > 0 || accumulate, p.c + j);
    }
  }
#endif
  const hn::CappedTag<float, 1> d1;
  for (; j < end; ++j) {
    for (int m = 0; m < kM; ++m) {
      float* c = p.c + m * p.c_stride + j;
      for (int64_t k = 0; k < p.k; k += kSumDepth) {
        auto sum = hn::Zero(d1);
        for (int64_t i = k; i < std::min(k + kSumDepth, p.k); ++i) {
          sum = hn::MulAdd(hn::Set(d1, x[m * p.k + i]), hn::Set(d1, to_float(b[j * stride + i])),
                           sum);
        }
        *c = k > 0 || accumulate ? *c + hn::GetLane(sum) : hn::GetLane(sum);
      }
    }
  }
}

// ---- one function for each type and number of rows

/// Calls work.operator()<T, rows>().
template <class T, int kM = 1, class Work>
void ForRows(int64_t rows, const Work& work) {
  if (rows == kM) return work.template operator()<T, kM>();
  if constexpr (kM < kFewRows) {
    ForRows<T, kM + 1>(rows, work);
  } else {
    throw Error(Fault::internal, "a streamed product of too many rows");
  }
}

template <class Work>
void ForTypeAndRows(const Product& p, const Work& work) {
  dispatch(p.b.dtype, [&]<class T>() HWY_ATTR { ForRows<T>(p.m, work); });
}

void StreamRows(const Product& p, const float* x, int64_t first_k, int64_t depth, int64_t first,
                int64_t count, float* sums) {
  ForTypeAndRows(p, [&]<class T, int rows>() HWY_ATTR {
    const T* b = static_cast<const T*>(p.b.data) + first_k * p.b.row_stride + first;
    for (int m = 0; m < rows; ++m) std::fill_n(sums + m * p.n + first, count, 0.0f);
    if constexpr (rows == 1) {
      StreamRow<T>(p, x + first_k, b, depth, count, sums + first);
    } else {
      StreamRowsOf<T, rows>(p, x + first_k, b, depth, count, sums + first);
    }
  });
}

void StreamColumns(const Product& p, const float* x, int64_t first, int64_t count) {
  ForTypeAndRows(
      p, [&]<class T, int rows>() HWY_ATTR { StreamColumnsOf<T, rows>(p, x, first, count); });
  if (p.bias == nullptr) return;
  for (int64_t m = 0; m < p.m; ++m) {
    float* c = p.c + m * p.c_stride + first;
    for_vectors(count, [&](int64_t j, int64_t lanes) QUIRE_INLINE_LAMBDA {
      store(hn::Add(load(c + j, lanes), load(p.bias + first + j, lanes)), c + j, lanes);
    });
  }
}

void AddParts(const Product& p, const float* sums, int64_t parts, int64_t first, int64_t count) {
  const bool accumulate = p.output == Product::Output::accumulate;
  for (int64_t m = 0; m < p.m; ++m) {
    const float* from = sums + m * p.n + first;
    float* c = p.c + m * p.c_stride + first;
    for_vectors(count, [&](int64_t j, int64_t lanes) QUIRE_INLINE_LAMBDA {
      Vec sum = load(from + j, lanes);
      if (accumulate) sum = hn::Add(load(c + j, lanes), sum);
      for (int64_t part = 1; part < parts; ++part) {
        sum = hn::Add(sum, load(from + part * p.m * p.n + j, lanes));
      }
      if (p.bias != nullptr) sum = hn::Add(sum, load(p.bias + first + j, lanes));
      store(sum, c + j, lanes);
    });
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace quire::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace quire::cpu {

HWY_EXPORT(StreamRows);
HWY_EXPORT(StreamColumns);
HWY_EXPORT(AddParts);

void stream_rows(const Product& product, const float* x, std::int64_t first_k, std::int64_t depth,
                 std::int64_t first, std::int64_t count, float* sums) {
  HWY_DYNAMIC_DISPATCH(StreamRows)(product, x, first_k, depth, first, count, sums);
}

void add_parts(const Product& product, const float* sums, std::int64_t parts, std::int64_t first,
               std::int64_t count) {
  HWY_DYNAMIC_DISPATCH(AddParts)(product, sums, parts, first, count);
}

void stream_columns(const Product& product, const float* x, std::int64_t first,
                    std::int64_t count) {
  HWY_DYNAMIC_DISPATCH(StreamColumns)(product, x, first, count);
}

}  // namespace quire::cpu
#endif

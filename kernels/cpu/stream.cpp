#include "kernels/cpu/stream.h"

#include <algorithm>
#include <type_traits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/stream.cpp"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "kernels/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace quire::cpu {
namespace HWY_NAMESPACE {

template <class T>
constexpr int64_t kLine = 64 / sizeof(T);  // elements of a cache line

/// Fetches a line into level-2 cache. Level 1 takes 32 KB or so, less than lies between here and what
/// is computed, and lets a core wait for fewer lines at a time (Zen 4, both cores: 24 to 29 GB/s
/// where memory gives 58, and 40 to 45 this way).
HWY_INLINE void prefetch(const void* line) {
  __builtin_prefetch(line, /*rw=*/0, /*locality=*/2);
}

// ---- b's rows are contiguous

// The sums of a whole row stay in level-1 cache and are added onto, row of b by row of b: nothing
// but a straight read of memory, which the hardware fetches ahead best when it is left alone, and
// when four vectors are read before any sum (Zen 4 with AVX-512, rows of 3,072: 38 GB/s with
// prefetches, 55 without, 59 in fours; bfloat16 24, 19 and 58, where memory gives 65).
template <class T>
void StreamRow(const Product& p, const float* x, const T* b, int64_t depth, int64_t count,
               float* sums) {
  constexpr int64_t kTogether = 4;
  for (int64_t k = 0; k < depth; ++k) {
    const T* row = b + k * p.b.row_stride;
    const Vec factor = set(x[k]);
    int64_t j = 0;
    for (; j + kTogether * kLanes <= count; j += kTogether * kLanes) {
      Vec sum[kTogether];
      for (int64_t v = 0; v < kTogether; ++v) sum[v] = load(row + j + v * kLanes);
      for (int64_t v = 0; v < kTogether; ++v) {
        sum[v] = hn::MulAdd(factor, sum[v], load(sums + j + v * kLanes));
      }
      for (int64_t v = 0; v < kTogether; ++v) store(sum[v], sums + j + v * kLanes);
    }
    for_vectors(count - j, [&](int64_t v, int64_t lanes) QUIRE_INLINE_LAMBDA {
      float* sum = sums + j + v;
      store(hn::MulAdd(factor, load(row + j + v, lanes), load(sum, lanes)), sum, lanes);
    });
  }
}

// Several rows of x would load and store their sums too often: eight rows of b go onto each, and
// the next eight are prefetched from end to end meanwhile.
constexpr int64_t kRowsAtOnce = 8;

/// A vector of columns.
template <class T, int kM>
HWY_INLINE void AddRows(const Product& p, const float* x, const T* rows, float* sums) {
  Vec sum[kM];
  for (int m = 0; m < kM; ++m) sum[m] = load(sums + m * p.n);
  for (int64_t r = 0; r < kRowsAtOnce; ++r) {
    const Vec w = load(rows + r * p.b.row_stride);
    for (int m = 0; m < kM; ++m) sum[m] = hn::MulAdd(set(x[m * p.k + r]), w, sum[m]);
  }
  for (int m = 0; m < kM; ++m) store(sum[m], sums + m * p.n);
}

template <class T, int kM>
void StreamRowsOf(const Product& p, const float* x, const T* b, int64_t depth, int64_t count,
                  float* sums) {
  const int64_t stride = p.b.row_stride;
  const int64_t whole_depth = depth / kRowsAtOnce * kRowsAtOnce;
  const int64_t whole_count = count / kLanes * kLanes;
  for (int64_t k = 0; k < whole_depth; k += kRowsAtOnce) {
    const T* rows = b + k * stride;
    const T* next = rows + kRowsAtOnce * stride;
    int64_t column = 0;
    for (int64_t j = 0; j < whole_count; j += kLanes) {
      for (int64_t done = 0; done < kRowsAtOnce * kLanes; done += kLine<T>) {
        prefetch(next + column);
        column += kLine<T>;
        if (column >= count) {
          column = 0;
          next += stride;
        }
      }
      AddRows<T, kM>(p, x + k, rows + j, sums + j);
    }
  }
  // What is left, row of x by row of x: in the same order of k, and compiled once.
  for (int64_t m = 0; m < kM; ++m, x += p.k, sums += p.n) {
    if (whole_count < count) {
      StreamRow<T>(p, x, b + whole_count, whole_depth, count - whole_count, sums + whole_count);
    }
    StreamRow<T>(p, x + whole_depth, b + whole_depth * stride, depth - whole_depth, count, sums);
  }
}

// ---- b's columns are contiguous

// As many columns as a vector has lanes are transposed in registers, some k at a time. A column's k
// lie side by side; a vector takes eight of them (or four, as many as it has lanes), with 16 lanes
// of two columns that are eight apart. Transposing 4 by 4 inside the blocks leaves each k's values in
// column order, but for the blocks of the first and the second four k, which change places.
#if HWY_TARGET != HWY_SCALAR
/// Vectors of a block, and floats of a column in one.
constexpr int kSlots = kLanes < 8 ? 4 : 8;
/// k of a block; of bfloat16, whose pairs go through the transposition together, twice as many.
template <class T>
constexpr int64_t kBlockDepth = std::is_same_v<T, BFloat16> ? 2 * kSlots : kSlots;

template <class D, class T>
HWY_INLINE hn::Vec<D> LoadBlocks(D d, const T* p, int64_t stride) {
  if constexpr (hn::MaxLanes(D()) > kSlots) {
    const hn::Half<D> half;
    return hn::Combine(d, LoadBlocks(half, p + kSlots * stride, stride),
                       LoadBlocks(half, p, stride));
  } else if constexpr (std::is_same_v<T, BFloat16>) {
    const hn::Repartition<std::uint16_t, D> halves;
    return hn::BitCast(d, hn::LoadU(halves, reinterpret_cast<const std::uint16_t*>(p)));
  } else {
    return load_as(d, p);
  }
}

/// Calls add(i, values of k = i in all columns) for the k of a block, in order.
template <class T, class Add>
HWY_INLINE void ForBlock(const T* p, int64_t stride, const Add& add) {
  const F32 d;
  Vec v[kSlots];
  for (int s = 0; s < kSlots; ++s) v[s] = LoadBlocks(d, p + s * stride, stride);
  for (int s = 0; s < kSlots; s += 4) transpose_blocks(d, v[s], v[s + 1], v[s + 2], v[s + 3]);
  const auto add_slot = [&](int s, Vec w) QUIRE_INLINE_LAMBDA {
    if constexpr (std::is_same_v<T, BFloat16>) {
      const hn::RebindToUnsigned<F32> bits;
      const auto pair = hn::BitCast(bits, w);
      add(2 * s, hn::BitCast(d, hn::ShiftLeft<16>(pair)));
      add(2 * s + 1, hn::BitCast(d, hn::And(pair, hn::Set(bits, 0xFFFF0000u))));
    } else {
      add(s, w);
    }
  };
  // Even blocks of v[s] and v[s + 4] hold k = s, odd ones k = s + 4.
  if constexpr (kLanes == 4) {
    for (int s = 0; s < 4; ++s) add_slot(s, v[s]);
  } else if constexpr (kLanes == 8) {
    for (int s = 0; s < 4; ++s) add_slot(s, hn::ConcatLowerLower(d, v[s + 4], v[s]));
    for (int s = 0; s < 4; ++s) add_slot(s + 4, hn::ConcatUpperUpper(d, v[s + 4], v[s]));
  } else {
    for (int s = 0; s < 4; ++s) {
      add_slot(s, hn::OddEvenBlocks(hn::SwapAdjacentBlocks(v[s + 4]), v[s]));
    }
    for (int s = 0; s < 4; ++s) {
      add_slot(s + 4, hn::OddEvenBlocks(v[s + 4], hn::SwapAdjacentBlocks(v[s])));
    }
  }
}

// One part of the sum for a vector of columns, added to c or, where it is the first, put there.
// Meanwhile the same share of the columns that come next is prefetched, from end to end. Two vectors
// side by side hide the latency of additions that nobody waits for, and take twice the lines at a
// time: where columns of 3,072 floats all go to one set of level-1 cache, 24 GB/s instead of 28.
template <class T, int kM>
HWY_INLINE void StreamColumnsPart(const Product& p, const float* x, const T* b, const T* next,
                                  int64_t depth, bool add, float* c) {
  constexpr int64_t kStep = kBlockDepth<T>;
  const int64_t stride = p.b.column_stride;
  Vec sums[kM];
  for (int m = 0; m < kM; ++m) sums[m] = zero();
  int64_t k = 0;
  for (; k + kStep <= depth; k += kStep) {
    if (next != nullptr) {
      for (int64_t i = 0; i < kStep * kLanes; i += kLine<T>) prefetch(next + k * kLanes + i);
    }
    ForBlock(b + k, stride, [&](int64_t i, Vec w) QUIRE_INLINE_LAMBDA {
      for (int m = 0; m < kM; ++m) sums[m] = hn::MulAdd(set(x[m * p.k + k + i]), w, sums[m]);
    });
  }
  for (; k < depth; ++k) {
    HWY_ALIGN float w[kLanes];
    for (int64_t j = 0; j < kLanes; ++j) w[j] = to_float(b[j * stride + k]);
    for (int m = 0; m < kM; ++m) sums[m] = hn::MulAdd(set(x[m * p.k + k]), load(w), sums[m]);
  }
  for (int m = 0; m < kM; ++m) {
    float* out = c + m * p.c_stride;
    store(add ? hn::Add(load(out), sums[m]) : sums[m], out);
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
  // The first columns come without anything to do meanwhile.
  for (int64_t i = 0; j + kLanes <= end && i < kLanes * p.k; i += kLine<T>) {
    prefetch(b + j * stride + i);
  }
  for (; j + kLanes <= end; j += kLanes) {
    // Those behind the last are the thread's next ones, as a rule.
    const T* next = j + 2 * kLanes <= p.n ? b + (j + kLanes) * stride : nullptr;
    for (int64_t k = 0; k < p.k; k += kSumDepth) {
      StreamColumnsPart<T, kM>(p, x + k, b + j * stride + k,
                               next == nullptr ? nullptr : next + k * kLanes,
                               std::min(kSumDepth, p.k - k), k > 0 || accumulate, p.c + j);
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

/// At most as many rows come here (matmul.cpp): by contiguous columns fewer where lanes.cpp has a way for the others.
/// Each that is left out saves seconds of compiling.
constexpr int kMostByRows = kFewRows - 1;
constexpr int kMostByColumns = HWY_TARGET <= HWY_AVX2 ? 6 : kFewRows;

/// Calls work.operator()<T, rows>().
template <class T, int kMost, int kM = 1, class Work>
void ForRows(int64_t rows, const Work& work) {
  if (rows == kM) return work.template operator()<T, kM>();
  if constexpr (kM < kMost) {
    ForRows<T, kMost, kM + 1>(rows, work);
  } else {
    throw Error(Fault::internal, "a streamed product of too many rows");
  }
}

template <int kMost, class Work>
void ForTypeAndRows(const Product& p, const Work& work) {
  dispatch(p.b.dtype, [&]<class T>() HWY_ATTR { ForRows<T, kMost>(p.m, work); });
}

void Prepare(const Product& p, void* words) {
  float* x = static_cast<float*>(words);
  const float* a = static_cast<const float*>(p.a.data);
  for (int64_t i = 0; i < p.m; ++i) {
    for (int64_t k = 0; k < p.k; ++k) {
      x[i * p.k + k] = p.a_scale * a[i * p.a.row_stride + k * p.a.column_stride];
    }
  }
}

void StreamRows(const Product& p, const void* words, int64_t first_k, int64_t depth, int64_t first,
                int64_t count, float* sums) {
  const float* x = static_cast<const float*>(words);
  ForTypeAndRows<kMostByRows>(p, [&]<class T, int rows>() HWY_ATTR {
    const T* b = static_cast<const T*>(p.b.data) + first_k * p.b.row_stride + first;
    for (int m = 0; m < rows; ++m) std::fill_n(sums + m * p.n + first, count, 0.0f);
    if constexpr (rows == 1) {
      StreamRow<T>(p, x + first_k, b, depth, count, sums + first);
    } else {
      StreamRowsOf<T, rows>(p, x + first_k, b, depth, count, sums + first);
    }
  });
}

void StreamColumns(const Product& p, const void* words, int64_t first, int64_t count) {
  const float* x = static_cast<const float*>(words);
  ForTypeAndRows<kMostByColumns>(
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

StreamedFormat Streams() {
  return {.word_depth = 1,
          .sum_depth = kSumDepth,
          .sum_columns = 1,
          .prepare = Prepare,
          .rows = StreamRows,
          .add_parts = AddParts,
          .columns = StreamColumns};
}

}  // namespace HWY_NAMESPACE
}  // namespace quire::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace quire::cpu {

HWY_EXPORT(Streams);

StreamedFormat float_streams() {
  return HWY_DYNAMIC_DISPATCH(Streams)();
}

}  // namespace quire::cpu
#endif

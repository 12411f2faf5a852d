// Matrix instructions for 16-bit types: fragments of tiles in shared memory, products with float
// sums, and the asynchronous copies that bring the tiles. Fragments are laid out as the PTX ISA
// draws them ("Warp Level Matrix Instructions"): of a 16×8 result, lane l holds columns 2·(l%4) and
// 2·(l%4) + 1 of row l/4 in elements 0 and 1, and of row l/4 + 8 in elements 2 and 3.
#pragma once

#include "kernels/cuda/math.cuh"
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/vec.cuh"

namespace quire::cuda {

#ifndef QUIRE_CUDA_ON_HOST
__device__ __forceinline__ unsigned shared_address(const void* pointer) {
  return static_cast<unsigned>(__cvta_generic_to_shared(pointer));
}
#endif

/// Four 8×8 matrices: lane l points at row l%8 of matrix l/8, and gets two elements of each.
__device__ __forceinline__ void load_matrices(std::uint32_t (&matrices)[4], const void* row) {
#ifdef QUIRE_CUDA_ON_HOST
  cuda_on_host::gather_matrices(QUIRE_SITE, static_cast<const std::uint32_t*>(row), matrices,
                                false);
#else
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(matrices[0]), "=r"(matrices[1]), "=r"(matrices[2]), "=r"(matrices[3])
               : "r"(shared_address(row)));
#endif
}

/// The same with each matrix transposed.
__device__ __forceinline__ void load_matrices_transposed(std::uint32_t (&matrices)[4],
                                                         const void* row) {
#ifdef QUIRE_CUDA_ON_HOST
  cuda_on_host::gather_matrices(QUIRE_SITE, static_cast<const std::uint32_t*>(row), matrices, true);
#else
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(matrices[0]), "=r"(matrices[1]), "=r"(matrices[2]), "=r"(matrices[3])
               : "r"(shared_address(row)));
#endif
}

/// sum [16, 8] += a [16, 16] · b [16, 8], of BFloat16 or Half.
template <class T>
__device__ __forceinline__ void multiply_add(float (&sum)[4], const std::uint32_t (&a)[4],
                                             std::uint32_t b_low, std::uint32_t b_high) {
#ifdef QUIRE_CUDA_ON_HOST
  constexpr auto kType =
      std::is_same_v<T, Half> ? cuda_on_host::MmaType::f16 : cuda_on_host::MmaType::bf16;
  const std::uint32_t b[2] = {b_low, b_high};
  cuda_on_host::mma(QUIRE_SITE, kType, sum, a, b, sum);
#else
  if constexpr (std::is_same_v<T, Half>) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b_low), "r"(b_high));
  } else {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b_low), "r"(b_high));
  }
#endif
}

/// Two neighbours of a fragment: the first one in the low half.
template <class T>
__device__ __forceinline__ std::uint32_t pack_pair(float low, float high) {
#ifdef QUIRE_CUDA_ON_HOST
  return std::uint32_t{narrow<T>(low).bits} | std::uint32_t{narrow<T>(high).bits} << 16;
#else
  std::uint32_t pair;  // one instruction; the high half is named first
  if constexpr (std::is_same_v<T, Half>) {
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  } else {
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  }
  return pair;
#endif
}

/// The results of two products, side by side, as the `a` of the next one.
template <class T>
__device__ __forceinline__ void pack_a(std::uint32_t (&a)[4], const float (&left)[4],
                                       const float (&right)[4]) {
  a[0] = pack_pair<T>(left[0], left[1]);
  a[1] = pack_pair<T>(left[2], left[3]);
  a[2] = pack_pair<T>(right[0], right[1]);
  a[3] = pack_pair<T>(right[2], right[3]);
}

/// Starts a copy of 16 bytes into shared memory, or of zeros where there is nothing to copy.
__device__ __forceinline__ void copy_async(void* to, const void* from, bool given) {
#ifdef QUIRE_CUDA_ON_HOST
  cuda_on_host::start_async({to, given ? from : nullptr, 16});
#else
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
               :
               : "r"(shared_address(to)), "l"(from), "r"(given ? 16 : 0)
               : "memory");
#endif
}

/// Ends a group of copies.
__device__ __forceinline__ void commit_copies() {
#ifdef QUIRE_CUDA_ON_HOST
  cuda_on_host::commit_async();
#else
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

/// Waits for this thread's copies, those of its last kPending groups left out. A barrier makes them
/// visible to other threads.
template <int kPending>
__device__ __forceinline__ void wait_for_copies() {
#ifdef QUIRE_CUDA_ON_HOST
  std::size_t count = 0;
  const cuda_on_host::AsyncCopy* copies = cuda_on_host::take_async(kPending, count);
  for (std::size_t i = 0; i < count; ++i) {
    if (copies[i].from != nullptr) {
      std::memcpy(copies[i].to, copies[i].from, copies[i].bytes);
    } else {
      std::memset(copies[i].to, 0, copies[i].bytes);
    }
  }
#else
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
#endif
}

/// Rows of kColumns 16-bit elements in shared memory. The eight steps of 16 bytes in 128 bytes are
/// permuted by the row, so that eight rows of a matrix lie in different banks.
template <class T, int kColumns>
struct SharedTile {
  static_assert(sizeof(T) == 2 && kColumns % 64 == 0);
  static constexpr int kStepsOfRow = kColumns / kStep<T>;
  T* first;

  static constexpr int bytes(int rows) { return rows * kColumns * static_cast<int>(sizeof(T)); }

  __device__ __forceinline__ T* at(int row, int step) const {
    return first + row * kColumns + (step ^ (row & 7)) * kStep<T>;
  }

  /// The 16×16 at (row, 16·step): as `a` of a product, rows by columns …
  __device__ __forceinline__ void load_a(std::uint32_t (&a)[4], int row, int step, int lane) const {
    load_matrices(a, at(row + lane % 16, 2 * step + lane / 16));
  }
  /// … or as `a` with the tile transposed: its columns 16·step … are the rows.
  __device__ __forceinline__ void load_a_transposed(std::uint32_t (&a)[4], int row, int step,
                                                    int lane) const {
    load_matrices_transposed(a, at(row + lane % 8 + lane / 16 * 8, 2 * step + lane / 8 % 2));
  }
  /// As two `b`s, [0, 1] and [2, 3], with the tile transposed: 8 of its rows are the columns of
  /// one.
  __device__ __forceinline__ void load_b_transposed(std::uint32_t (&b)[4], int row, int step,
                                                    int lane) const {
    load_matrices(b, at(row + lane % 8 + lane / 16 * 8, 2 * step + lane / 8 % 2));
  }
  /// As two `b`s, each with 8 of its columns.
  __device__ __forceinline__ void load_b(std::uint32_t (&b)[4], int row, int step, int lane) const {
    load_matrices_transposed(b, at(row + lane % 16, 2 * step + lane / 16));
  }

  /// Writes a warp's products, 16 rows from `row` on, each half of them times its factor.
  __device__ __forceinline__ void put(int row, const float (&sums)[kColumns / 8][4], float low,
                                      float high, int lane) const {
#pragma unroll
    for (int n = 0; n < kColumns / 8; ++n) {
      *reinterpret_cast<std::uint32_t*>(at(row + lane / 4, n) + lane % 4 * 2) =
          pack_pair<T>(sums[n][0] * low, sums[n][1] * low);
      *reinterpret_cast<std::uint32_t*>(at(row + lane / 4 + 8, n) + lane % 4 * 2) =
          pack_pair<T>(sums[n][2] * high, sums[n][3] * high);
    }
  }
  /// A warp writes rows row … row + count - 1 of D elements to global memory, 16 bytes at a time.
  __device__ __forceinline__ void write_rows(T* to, int stride, int row, int count, int D,
                                             int lane) const {
    for (int i = lane; i < count * kStepsOfRow; i += kWarp) {
      const int r = i / kStepsOfRow, step = i % kStepsOfRow;
      if (step * kStep<T> >= D) continue;
      *reinterpret_cast<Pack<T>*>(to + std::int64_t{r} * stride + step * kStep<T>) =
          *reinterpret_cast<const Pack<T>*>(at(row + r, step));
    }
  }

  /// Starts the copy of rows row … row + kRows - 1 of D elements from global memory, by kThreads
  /// threads. Rows from `end` on and columns from D on become zeros.
  template <int kRows, int kThreads>
  __device__ __forceinline__ void copy_rows(const T* from, int stride, int row, int end, int D,
                                            int thread) const {
    static_assert(kRows * kStepsOfRow % kThreads == 0 && kThreads % kStepsOfRow == 0);
    constexpr int kRowsAtOnce = kThreads / kStepsOfRow;
    const int step = thread % kStepsOfRow;
#pragma unroll
    for (int i = thread / kStepsOfRow; i < kRows; i += kRowsAtOnce) {
      const bool given = row + i < end && step * kStep<T> < D;
      copy_async(at(i, step), from + (given ? std::int64_t{row + i} * stride + step * kStep<T> : 0),
                 given);
    }
  }
};

}  // namespace quire::cuda

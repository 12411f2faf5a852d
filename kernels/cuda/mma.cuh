// Matrix instructions for 16-bit types: fragments of tiles in shared memory, products with float
// sums, and the asynchronous copies that bring the tiles. Fragments are laid out as the PTX ISA
// draws them ("Warp Level Matrix Instructions"): of a 16×8 result, lane l holds columns 2·(l%4) and
// 2·(l%4) + 1 of row l/4 in elements 0 and 1, and of row l/4 + 8 in elements 2 and 3.
#pragma once

#include <limits>

#include "kernels/cuda/math.cuh"
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/vec.cuh"

namespace quire::cuda {

/// An address in shared memory as the instructions below take it.
#ifdef QUIRE_CUDA_ON_HOST
using SharedAddress = std::uintptr_t;
inline SharedAddress shared_address(const void* pointer) {
  return reinterpret_cast<SharedAddress>(pointer);
}
#else
using SharedAddress = unsigned;
__device__ __forceinline__ SharedAddress shared_address(const void* pointer) {
  return static_cast<SharedAddress>(__cvta_generic_to_shared(pointer));
}
#endif

/// Four 8×8 matrices, each transposed or not: lane l points at row l%8 of matrix l/8, and gets two
/// elements of each.
template <bool kTransposed>
__device__ __forceinline__ void load_matrices(std::uint32_t (&matrices)[4], SharedAddress row) {
#ifdef QUIRE_CUDA_ON_HOST
  cuda_on_host::gather_matrices(QUIRE_SITE, reinterpret_cast<const std::uint32_t*>(row), matrices,
                                kTransposed);
#else
  if constexpr (kTransposed) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(matrices[0]), "=r"(matrices[1]), "=r"(matrices[2]), "=r"(matrices[3])
                 : "r"(row));
  } else {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(matrices[0]), "=r"(matrices[1]), "=r"(matrices[2]), "=r"(matrices[3])
                 : "r"(row));
  }
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

/// The results of two products, side by side, as the `a` of the next one.
template <class T>
__device__ __forceinline__ void pack_a(std::uint32_t (&a)[4], const float (&left)[4],
                                       const float (&right)[4]) {
  a[0] = pack_pair<T>(left[0], left[1]);
  a[1] = pack_pair<T>(left[2], left[3]);
  a[2] = pack_pair<T>(right[0], right[1]);
  a[3] = pack_pair<T>(right[2], right[3]);
}

/// Starts a copy of 16 bytes into shared memory, or of zeros where there is nothing to copy: `from`
/// may then point anywhere.
__device__ __forceinline__ void copy_async(void* to, const void* from, bool given) {
#ifdef QUIRE_CUDA_ON_HOST
  cuda_on_host::start_async(to, given ? from : nullptr, 16);
#else
  // "Ignore the source" is a predicate; a size of 0 bytes would be two more instructions a copy.
  asm volatile(
      "{\n"
      "  .reg .pred ignored;\n"
      "  setp.eq.u32 ignored, %2, 0;\n"
      "  cp.async.cg.shared.global [%0], [%1], 16, ignored;\n"
      "}"
      :
      : "r"(shared_address(to)), "l"(from), "r"(static_cast<unsigned>(given))
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
  cuda_on_host::finish_async(kPending);
#else
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
#endif
}

/// Rows of kColumns 16-bit elements in shared memory, from a multiple of 128 bytes on. The eight
/// steps of 16 bytes in 128 bytes are permuted by the row, so that eight rows of a matrix lie in
/// different banks. A number of a row or step that the compiler knows costs a lane nothing, or one
/// exclusive or for the step: what a lane adds of its own is the same for all of them.
template <class Element, int kColumns_>
struct SharedTile {
  using T = Element;
  static constexpr int kColumns = kColumns_;
  static_assert(sizeof(T) == 2 && kColumns % 64 == 0);
  static constexpr int kStepsOfRow = kColumns / kStep<T>;
  static constexpr int kRowBytes = kColumns * static_cast<int>(sizeof(T));
  T* first;

  static constexpr int bytes(int rows) { return rows * kRowBytes; }

  /// The tile without the rows before `row`, a multiple of 8.
  __device__ __forceinline__ SharedTile from(int row) const { return {first + row * kColumns}; }

  __device__ __forceinline__ static int offset(int row, int step) {
    return row * kColumns + (step ^ (row & 7)) * kStep<T>;
  }
  __device__ __forceinline__ T* at(int row, int step) const { return first + offset(row, step); }

  /// The 16×16 at (row, 16·step), row a multiple of 8: as `a` of a product, rows by columns …
  __device__ __forceinline__ void load_a(std::uint32_t (&a)[4], int row, int step, int lane) const {
    load_matrices<false>(a, place(row, step, lane % 16, lane / 16));
  }
  /// … or as two `b`s, [0, 1] and [2, 3], with the tile transposed: 8 of its rows are the columns
  /// of one …
  __device__ __forceinline__ void load_b_transposed(std::uint32_t (&b)[4], int row, int step,
                                                    int lane) const {
    load_matrices<false>(b, place(row, step, lane % 8 + lane / 16 * 8, lane / 8 % 2));
  }
  /// … or as two `b`s, each with 8 of its columns.
  __device__ __forceinline__ void load_b(std::uint32_t (&b)[4], int row, int step, int lane) const {
    load_matrices<true>(b, place(row, step, lane % 16, lane / 16));
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
  /// A warp writes the first `count` rows of D elements to global memory, 16 bytes at a time.
  __device__ __forceinline__ void write_rows(T* to, int stride, int count, int D, int lane) const {
    for (int i = lane; i < count * kStepsOfRow; i += kWarp) {
      const int r = i / kStepsOfRow, step = i % kStepsOfRow;
      if (step * kStep<T> >= D) continue;
      *reinterpret_cast<Pack<T>*>(to + std::int64_t{r} * stride + step * kStep<T>) =
          *reinterpret_cast<const Pack<T>*>(at(r, step));
    }
  }

 private:
  /// Row `row` + lane_row, 16-byte step 2·step + lane_step. Rows begin at multiples of 128 bytes,
  /// so the permutation's exclusive or, whose one half is the lane's, can be the address's own.
  __device__ __forceinline__ SharedAddress place(int row, int step, int lane_row,
                                                 int lane_step) const {
    const SharedAddress of_lane =
        shared_address(first) +
        static_cast<unsigned>(lane_row * kRowBytes + (lane_step ^ (lane_row & 7)) * 16);
    return (of_lane ^ static_cast<unsigned>(2 * step % 8 * 16)) +
           static_cast<unsigned>(2 * step / 8 * 128 + row * kRowBytes);
  }
};

/// A thread's share of the copies of rows of D elements from global memory into tiles, one tile
/// after another, by kThreads threads: a step of 16 bytes in every kRowsAtOnce-th row. These rows
/// are permuted alike, so all that is left to compute for a copy is where it reads.
template <class Tile, int kThreads>
struct TileCopies {
  using T = typename Tile::T;
  static constexpr int kRowsAtOnce = kThreads / Tile::kStepsOfRow;
  static_assert(kThreads % Tile::kStepsOfRow == 0 && kRowsAtOnce % 8 == 0);
  const T* from;
  int row;     // of the next tile's first copy
  int stride;  // in elements
  int place;   // in a tile

  /// The first tile begins with row first_row. Steps behind column D are taken for rows behind the
  /// last one: they become zeros.
  __device__ __forceinline__ TileCopies(const T* rows, int stride_, int first_row, int D,
                                        int thread)
      : row(first_row + thread / Tile::kStepsOfRow), stride(stride_) {
    const int step = thread % Tile::kStepsOfRow;
    from = rows + std::int64_t{row} * stride + step * kStep<T>;
    place = Tile::offset(thread / Tile::kStepsOfRow, step);
    if (step * kStep<T> >= D) row = std::numeric_limits<int>::max() / 2;
  }

  /// Starts the copies of the next tile, of kRows rows. Those from `end` on become zeros.
  template <int kRows>
  __device__ __forceinline__ void start(const Tile& tile, int end) {
    static_assert(kRows % kRowsAtOnce == 0);
#pragma unroll
    for (int i = 0; i < kRows; i += kRowsAtOnce) {
      copy_async(tile.first + place + i * Tile::kColumns, from + std::int64_t{i} * stride,
                 row + i < end);
    }
    from += std::int64_t{kRows} * stride;
    row += kRows;
  }
};

}  // namespace quire::cuda

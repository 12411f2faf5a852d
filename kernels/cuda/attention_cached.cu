// Attention with a cache of keys and values.
//
// A few new positions (decoding) find all their keys in the cache, and the work is to read it:
// 2·D elements of the cache for each slot, head and row, at 4·D flops a query. One launch takes all
// of it, a warp for each chunk of 64 slots, whatever the rows' lengths; the last warp of a query to
// arrive joins its chunks in their order, which is that of the slots alone. A chunk is a block of
// the cache: one look into the row's table finds it. Its result is D + 2 floats, 3% of what it
// reads in 16 bits. B = 64, H = 12, D = 64 and 1024 slots in bf16: 201 MB, 60 µs at 3.35 TB/s.
//
// In 16 bits four warps share a chunk and ask for all of it, keys and values, before they look at a
// key: 8 copies of 16 bytes a lane into shared memory, where each lane reads what it copied itself.
// One warp for a chunk ran 3,400 instructions, one in 3.9 cycles, which was 8 of the 19.5 µs of a layer
// at batch 1 (H100). Floats, heads of odd sizes and those of more than 128 elements go through
// attend_chunk() (attention_rows.cuh), a warp a chunk.
//
// More new positions (a prompt) are written into the cache first and go through the forward kernel.
#include "kernels/cuda/attention_rows.cuh"
#include "kernels/cuda/device.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/mma.cuh"

namespace quire::cuda {
namespace {

constexpr int kMaxQueries = 8;  // of a row, that are decoded chunk by chunk
constexpr int kChunkWarps = 4;  // that share a chunk, in 16 bits

/// Floats of a chunk's result, whole steps of 16 bytes.
__host__ __device__ constexpr int part_size(int D) {
  return (D + 3) / 4 * 4 + 4;
}

struct Cached {
  void* out;  // [B, T, C]
  void* k_cache;
  void* v_cache;     // [H, N, D]
  HeadRows q, k, v;  // the new ones, T rows
  const int* past;
  const int* blocks;       // [B, chunks]
  float* parts = nullptr;  // [B, T, H, chunks, part_size(D)]: out, largest and sum of SoftmaxPart
  // [B, T, H]: warps that have written their part; 0 before and after.
  unsigned* arrivals = nullptr;
  int B, H, T, N, D, chunks;
  int size;       // bytes of an element
  bool recorded;  // what the cache held before the step may be read before the step's own is there
  float scale_log2;

  /// Row of the caches, seen as [H·N, D], that has a slot.
  __device__ __forceinline__ std::int64_t cached_row(int b, int h, int slot) const {
    return std::int64_t{h} * N + block_row(blocks + b * chunks, slot);
  }
  __device__ __forceinline__ float* part(int bth, int chunk) const {
    return parts + (std::int64_t{bth} * chunks + chunk) * part_size(D);
  }
};

/// Where the keys or values of a row and head are, from the first slot of a chunk on: new ones are
/// read where they came from, as who writes them into the cache is another warp.
template <class T>
struct Slots {
  const T *old_rows, *new_rows;
  int past, D, new_stride;

  __device__ __forceinline__ Slots(const Cached& p, const void* cache, const HeadRows& rows, int b,
                                   int h, int first)
      : old_rows(static_cast<const T*>(cache) + p.cached_row(b, h, first) * p.D),
        new_rows(rows.head<T>(b, h)),
        past(p.past[b] - first),
        D(p.D),
        new_stride(rows.of_row) {}
  __device__ __forceinline__ const T* operator()(int k) const {
    const bool old = k < past;
    return (old ? old_rows : new_rows) +
           std::int64_t{old ? k : k - past} * std::int64_t{old ? D : new_stride};
  }
};

/// Row t of the new keys and values of (b, h) goes into the cache: a warp, which copies elements of
/// any type as Units.
template <class Unit>
__device__ __forceinline__ void write_slot(const Cached& p, int b, int t, int h, int lane) {
  const std::int64_t slot = p.cached_row(b, h, p.past[b] + t);
  const std::int64_t bytes = std::int64_t{p.D} * p.size, count = bytes / sizeof(Unit);
  const auto copy = [&](void* cache, const HeadRows& rows) {
    const std::int64_t row = b * rows.of_batch + h * rows.of_head + std::int64_t{t} * rows.of_row;
    auto* to = reinterpret_cast<Unit*>(static_cast<std::byte*>(cache) + slot * bytes);
    const auto* from =
        reinterpret_cast<const Unit*>(static_cast<const std::byte*>(rows.first) + row * p.size);
    for (std::int64_t i = lane; i < count; i += kWarp) to[i] = from[i];
  };
  copy(p.k_cache, p.k);
  copy(p.v_cache, p.v);
}

template <class Unit>
__global__ void __launch_bounds__(kWarp) attention_write_slots(Cached p) {
  const int bth = static_cast<int>(blockIdx.x), bt = bth / p.H;
  write_slot<Unit>(p, bt / p.T, bt % p.T, bth % p.H, static_cast<int>(threadIdx.x));
}

/// Joins the chunks of (b, t, h) over all columns: a warp.
template <class Layout>
__device__ __forceinline__ void join_chunks(const Cached& p, int bth, int count, int lane) {
  using T = typename Layout::T;
  T* out = static_cast<T*>(p.out) + std::int64_t{bth} * p.D;
  for (int piece = 0; piece < p.D; piece += Layout::kPiece) {
    const int d = piece + Layout::column(lane);
    SoftmaxPart all = SoftmaxPart::nothing();
#pragma unroll 4
    for (int chunk = 0; chunk < count; ++chunk) {
      const float* from = p.part(bth, chunk);
      const float* totals = from + part_size(p.D) - 4;
      SoftmaxPart part;
      part.largest = totals[0];
      part.sum = totals[1];
      widen(fetch_at<kPart>(from + min(d, part_size(p.D) - kPart)), part.out);
      all.join(part);
    }
    all.store<Layout>(out, nullptr, d, p.D, lane);
  }
}

/// Whether all others of the `expected` warps have written what they had to: true for one of them,
/// which sees it.
__device__ __forceinline__ bool arrives_last(unsigned* arrivals, unsigned expected, int lane) {
  __syncwarp();
  unsigned before = 0;
  if (lane == 0) {
    __threadfence();
    before = atomicAdd(arrivals, 1u);
    __threadfence();
  }
  before = __shfl_sync(kWholeWarp, before, 0);
  __syncwarp();  // a shuffle alone orders nothing
  return before + 1 == expected;
}

/// The chunk of a warp: slots first … first + count - 1 of those that query t of (b, h) sees; none
/// where the row is shorter.
struct Chunk {
  int lane, bth, number, b, t, h;
  int first, count;
  int chunks;  // of the query

  __device__ __forceinline__ Chunk(const Cached& p, int lane_)
      : lane(lane_),
        bth(static_cast<int>(blockIdx.x)),
        number(static_cast<int>(blockIdx.y)),
        b(bth / p.H / p.T),
        t(bth / p.H % p.T),
        h(bth % p.H) {
    const int end = p.past[b] + t + 1;
    first = number * kChunk;
    count = min(kChunk, end - first);
    chunks = (end + kChunk - 1) / kChunk;
  }
};

/// attend_chunk() of keys and values that lie in shared memory, by all warps of a block: each has
/// every kChunkWarps-th part of the slots, of which its lanes read what they copied themselves. The
/// first warp gets the result.
template <class Layout>
__device__ __forceinline__ SoftmaxPart attend_staged(const Cached& p, const Chunk& c, int warp,
                                                     const Pack<typename Layout::T>* keys,
                                                     const Pack<typename Layout::T>* values) {
  using T = typename Layout::T;
  constexpr int kOwn = Layout::kSteps / kChunkWarps, kResult = Layout::kPiece + 1;
  QUIRE_SHARED(float, largest, kChunkWarps);
  QUIRE_SHARED(float, results, kChunkWarps* kResult);
  const int column = Layout::column(c.lane), first = warp * kOwn;
  float query[kPart];
  load_row<true>(p.q.row<T>(c.b, c.h, c.t), column, p.D, query);
  const auto given = [&](int i) {
    return (first + i) * Layout::kRowsAtOnce + Layout::row(c.lane) < c.count;
  };
  SoftmaxPart part = SoftmaxPart::nothing();
  float score[kOwn];
  wait_for_copies<0>();
#pragma unroll
  for (int i = 0; i < kOwn; ++i) {
    float key[kPart], dot = 0.0f;
    widen(keys[(first + i) * kWarp + c.lane], key);
#pragma unroll
    for (int j = 0; j < kPart; ++j) dot = fmaf(query[j], key[j], dot);
    dot = reduce_neighbours<Layout::kLanesOfRow>(dot, Add{});
    score[i] = given(i) ? dot * p.scale_log2 : minus_infinity();
    part.largest = Largest{}(part.largest, score[i]);
  }
  part.largest = reduce_groups<Layout::kLanesOfRow>(part.largest, Largest{});
  if (c.lane == 0) largest[warp] = part.largest;
  __syncthreads();
  part.largest = largest[0];
#pragma unroll
  for (int w = 1; w < kChunkWarps; ++w) part.largest = Largest{}(part.largest, largest[w]);

#pragma unroll
  for (int i = 0; i < kOwn; ++i) {
    const float factor = given(i) ? exp2f(score[i] - part.largest) : 0.0f;
    float value[kPart];
    widen(values[(first + i) * kWarp + c.lane], value);
    part.sum += factor;
#pragma unroll
    for (int j = 0; j < kPart; ++j) part.out[j] = fmaf(factor, value[j], part.out[j]);
  }
  part.sum = reduce_groups<Layout::kLanesOfRow>(part.sum, Add{});
#pragma unroll
  for (int j = 0; j < kPart; ++j) {
    part.out[j] = reduce_groups<Layout::kLanesOfRow>(part.out[j], Add{});
  }
  if (c.lane < Layout::kLanesOfRow) {
    float* const result = results + warp * kResult;
#pragma unroll
    for (int j = 0; j < kPart; ++j) result[column + j] = part.out[j];
    if (c.lane == 0) result[Layout::kPiece] = part.sum;
  }
  __syncthreads();
  if (warp != 0) return part;
#pragma unroll
  for (int w = 1; w < kChunkWarps; ++w) {
    const float* const result = results + w * kResult;
    part.sum += result[Layout::kPiece];
#pragma unroll
    for (int j = 0; j < kPart; ++j) part.out[j] += result[column + j];
  }
  return part;
}

/// Keeps what a chunk gives from column d on, and joins all of them where it is the last.
template <class Layout>
__device__ __forceinline__ void finish_chunk(const Cached& p, const Chunk& c,
                                             const SoftmaxPart& part, int d) {
  float* to = p.part(c.bth, c.number);
  if (c.lane < Layout::kLanesOfRow) {
#pragma unroll
    for (int half = 0; half < kPart; half += 4) {
      const float step[] = {part.out[half], part.out[half + 1], part.out[half + 2],
                            part.out[half + 3]};
      store_row<true>(to, d + half, part_size(p.D) - 4, step);
    }
  }
  if (c.lane == 0 && blockIdx.z == 0) {
    float* totals = to + part_size(p.D) - 4;
    totals[0] = part.largest;
    totals[1] = part.sum;
  }
  if (arrives_last(p.arrivals + c.bth, static_cast<unsigned>(c.chunks) * gridDim.z, c.lane)) {
    join_chunks<Layout>(p, c.bth, c.chunks, c.lane);
    if (c.lane == 0) p.arrivals[c.bth] = 0;
  }
}

/// A warp for each ((b, t, h), chunk, slice).
template <class Layout>
__global__ void __launch_bounds__(kWarp) attention_chunks(Cached p) {
  using T = typename Layout::T;
  let_next_begin();
  wait_for_previous();
  const Chunk c(p, static_cast<int>(threadIdx.x));
  if (c.count <= 0) return;
  const int d = static_cast<int>(blockIdx.z) * Layout::kPiece + Layout::column(c.lane);
  const Slots<T> key(p, p.k_cache, p.k, c.b, c.h, c.first);
  const Slots<T> value(p, p.v_cache, p.v, c.b, c.h, c.first);
  const FixedRow<Layout> query(p.q.row<T>(c.b, c.h, c.t), c.lane, p.D);
  const SoftmaxPart part =
      attend_chunk(query, key, value, c.count, p.scale_log2, DropoutRule{}, 0, d, p.D, c.lane);
  if (c.number == 0 && blockIdx.z == 0) write_slot<T>(p, c.b, c.t, c.h, c.lane);
  finish_chunk<Layout>(p, c, part, d);
}

/// The same for whole rows of 16 bits, of up to kPiece elements, by four warps.
template <class T, int kPiece>
__global__ void __launch_bounds__(kChunkWarps* kWarp) attention_staged(Cached p) {
  using Layout = RowLayout<T, true, kPiece, false>;
  constexpr int kSteps = Layout::kSteps, kOwn = kSteps / kChunkWarps;
  static_assert(kSteps % kChunkWarps == 0);
  QUIRE_SHARED(Pack<T>, keys, kSteps * kWarp);
  QUIRE_SHARED(Pack<T>, values, kSteps * kWarp);
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  let_next_begin();
  if (!p.recorded) wait_for_previous();
  const Chunk c(p, static_cast<int>(threadIdx.x) % kWarp);
  const int d = Layout::column(c.lane), lane_row = Layout::row(c.lane);
  const Slots<T> key(p, p.k_cache, p.k, c.b, c.h, c.first);
  const Slots<T> value(p, p.v_cache, p.v, c.b, c.h, c.first);
  const int first_new = max(key.past, 0);
  if (c.count > 0) {
#pragma unroll
    for (int i = 0; i < kOwn; ++i) {
      const int step = warp * kOwn + i, row = step * Layout::kRowsAtOnce + lane_row;
      const bool given = row < c.count && d < p.D;
      if (given && row >= first_new) continue;
      const int slot = given ? row : 0, element = given ? d : 0;
      copy_async(keys + step * kWarp + c.lane, key(slot) + element, given);
      copy_async(values + step * kWarp + c.lane, value(slot) + element, given);
    }
  }
  if (p.recorded) wait_for_previous();
#pragma unroll 1
  for (int row = first_new; row < c.count; ++row) {
    const int step = row / Layout::kRowsAtOnce;
    if (step / kOwn != warp || row % Layout::kRowsAtOnce != lane_row || d >= p.D) continue;
    copy_async(keys + step * kWarp + c.lane, key(row) + d, true);
    copy_async(values + step * kWarp + c.lane, value(row) + d, true);
  }
  commit_copies();
  if (c.count <= 0) return;
  if (warp == kChunkWarps - 1 && c.number == 0) write_slot<uint4>(p, c.b, c.t, c.h, c.lane);
  const SoftmaxPart part = attend_staged<Layout>(p, c, warp, keys, values);
  if (warp == 0) finish_chunk<Layout>(p, c, part, d);
}

void launch_chunks(const Cached& p, DType dtype, bool whole, const ChainLaunch& how) {
  const dim3 grid(static_cast<unsigned>(p.B * p.T * p.H), static_cast<unsigned>(p.chunks),
                  slices_of(p.D));
  with_layout(dtype, whole, p.D, [&](auto layout) {
    using Layout = decltype(layout);
    if constexpr (sizeof(typename Layout::T) == 2 && Layout::kWhole) {
      QUIRE_LAUNCH_CHAINED((attention_staged<typename Layout::T, Layout::kPiece>), grid,
                           kChunkWarps * kWarp, 0, how, p);
    } else {
      // In 16 bits one layout does for all that is left. Floats have the prompt's, for its bits.
      using T = typename Layout::T;
      using Of16Bits = RowLayout<T, false, 128, true>;
      using Plain = std::conditional_t<sizeof(T) == 2, Of16Bits, Layout>;
      QUIRE_LAUNCH_CHAINED(attention_chunks<Plain>, grid, kWarp, 0, how, p);
    }
  });
}

}  // namespace

void CudaDevice::do_attention_cached(const AttentionCached& p) {
  const Shape& shape = p.out.shape();
  const int B = static_cast<int>(shape[0]), T = static_cast<int>(shape[1]), H = p.heads;
  const int N = static_cast<int>(p.k_cache.shape()[1]), D = static_cast<int>(shape[2]) / H;
  const bool whole = whole_rows(D, kPart, p.out, p.qkv, p.k_cache, p.v_cache);
  Cached cached{.out = p.out.bytes(),
                .k_cache = p.k_cache.bytes(),
                .v_cache = p.v_cache.bytes(),
                .q = packed_rows(p.qkv, 0, H),
                .k = packed_rows(p.qkv, 1, H),
                .v = packed_rows(p.qkv, 2, H),
                .past = p.past.data<std::int32_t>(),
                .blocks = p.blocks.data<std::int32_t>(),
                .B = B,
                .H = H,
                .T = T,
                .N = N,
                .D = D,
                .chunks = static_cast<int>(p.blocks.shape()[1]),
                .size = static_cast<int>(size_of(p.qkv.dtype())),
                .recorded = chain().recorded,
                .scale_log2 = p.scale * kLog2e};
  const unsigned rows = static_cast<unsigned>(B * T * H);
  if (T <= kMaxQueries) {
    cached.parts = scratch<float>(std::int64_t{rows} * cached.chunks * part_size(D));
    cached.arrivals = arrivals(rows);
    launch_chunks(cached, p.qkv.dtype(), whole, chain());
    return;
  }
  if (whole) {
    QUIRE_LAUNCH(attention_write_slots<uint4>, rows, kWarp, 0, stream_, cached);
  } else {
    QUIRE_LAUNCH(attention_write_slots<std::uint16_t>, rows, kWarp, 0, stream_, cached);
  }
  const std::int64_t of_head = std::int64_t{N} * D;  // the table knows the batch rows
  launch_attention({.out = cached.out,
                    .q = cached.q,
                    .k = {cached.k_cache, 0, of_head, D},
                    .v = {cached.v_cache, 0, of_head, D},
                    .past = cached.past,
                    .blocks = cached.blocks,
                    .blocks_of_row = cached.chunks,
                    .B = B,
                    .H = H,
                    .T = T,
                    .D = D,
                    .scale = p.scale},
                   p.qkv.dtype(), whole, stream_);
}

}  // namespace quire::cuda

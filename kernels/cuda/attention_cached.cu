// Attention with a cache of keys and values.
//
// A few new positions (decoding) find all their keys in the cache, and the work is to read it:
// 2·D elements of the cache for each slot, head and row, at 4·D flops a query. One launch takes all
// of it, a warp for each chunk of 64 slots, whatever the rows' lengths; the last warp of a query to
// arrive joins its chunks in their order, which is that of the slots alone. A chunk's result is
// D + 2 floats, 3% of what the chunk reads in 16 bits. B = 64, H = 12, D = 64 and 1024 slots in
// bf16: 201 MB, 60 µs at 3.35 TB/s.
//
// More new positions (a prompt) are written into the cache first and go through the forward kernel.
#include "kernels/check.h"
#include "kernels/cuda/attention_rows.cuh"
#include "kernels/cuda/device.h"
#include "kernels/cuda/gemm_library.h"

namespace quire::cuda {
namespace {

constexpr int kMaxQueries = 8;  // of a row, that are decoded chunk by chunk

struct Cached {
  void* out;  // [B, T, C]
  void* k_cache;
  void* v_cache;     // [B, H, S, D]
  HeadRows q, k, v;  // the new ones, T rows
  const int* past;
  const int* first_key;  // [B], or null
  float* parts;          // [B, T, H, chunks, D + 2]: see SoftmaxPart
  unsigned* arrivals;    // [B, T, H]: warps that have written their part; 0 before and after
  int B, H, T, S, D, chunks;
  float scale_log2;

  __device__ __forceinline__ int first(int b) const {
    return first_key == nullptr ? 0 : first_key[b];
  }
  __device__ __forceinline__ float* part(int bth, int chunk) const {
    return parts + (std::int64_t{bth} * chunks + chunk) * (D + 2);
  }
};

/// Row t of the new keys and values of (b, h) goes into the cache: a warp.
template <class Layout>
__device__ __forceinline__ void write_slot(const Cached& p, int b, int t, int h, int lane) {
  using T = typename Layout::T;
  const std::int64_t slot = (std::int64_t{b} * p.H + h) * p.S + p.past[b] + t;
  const T* from[] = {p.k.row<T>(b, h, t), p.v.row<T>(b, h, t)};
  T* to[] = {static_cast<T*>(p.k_cache) + slot * p.D, static_cast<T*>(p.v_cache) + slot * p.D};
#pragma unroll
  for (int which = 0; which < 2; ++which) {
    for (int d = lane * kPart; d < p.D; d += kWarp * kPart) {
      float values[kPart];
      load_row<Layout::kWhole>(from[which], d, p.D, values);
      store_row<Layout::kWhole>(to[which], d, p.D, values);
    }
  }
}

template <class Layout>
__global__ void __launch_bounds__(kWarp) attention_write_slots(Cached p) {
  const int bth = static_cast<int>(blockIdx.x), bt = bth / p.H;
  write_slot<Layout>(p, bt / p.T, bt % p.T, bth % p.H, static_cast<int>(threadIdx.x));
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
      SoftmaxPart part;
      part.largest = from[p.D];
      part.sum = from[p.D + 1];
#pragma unroll
      for (int j = 0; j < kPart; ++j) part.out[j] = d + j < p.D ? from[d + j] : 0.0f;
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

/// A warp for each ((b, t, h), chunk, slice). New keys are read where they came from: who writes
/// them into the cache is another warp.
template <class Layout>
__global__ void __launch_bounds__(kWarp) attention_chunks(Cached p) {
  using T = typename Layout::T;
  const int lane = static_cast<int>(threadIdx.x);
  const int bth = static_cast<int>(blockIdx.x), chunk = static_cast<int>(blockIdx.y);
  const int h = bth % p.H, t = bth / p.H % p.T, b = bth / p.H / p.T;
  const bool is_first = chunk == 0 && blockIdx.z == 0;
  if (is_first) write_slot<Layout>(p, b, t, h, lane);
  const int past = p.past[b], end = past + t + 1;
  const int first = p.first(b) + chunk * kChunk;
  const int count = (end - p.first(b) + kChunk - 1) / kChunk;  // of chunks
  if (is_first && count <= 0) join_chunks<Layout>(p, bth, 0, lane);
  if (first >= end) return;

  const int d = static_cast<int>(blockIdx.z) * Layout::kPiece + Layout::column(lane);
  const std::int64_t head = (std::int64_t{b} * p.H + h) * p.S * p.D;
  const T* old_keys = static_cast<const T*>(p.k_cache) + head;
  const T* old_values = static_cast<const T*>(p.v_cache) + head;
  const T* new_keys = p.k.head<T>(b, h);
  const T* new_values = p.v.head<T>(b, h);
  const auto key = [&](int k) {
    return k < past ? old_keys + std::int64_t{k} * p.D
                    : new_keys + std::int64_t{k - past} * p.k.of_row;
  };
  const auto value = [&](int k) {
    return k < past ? old_values + std::int64_t{k} * p.D
                    : new_values + std::int64_t{k - past} * p.v.of_row;
  };
  const FixedRow<Layout> query(p.q.row<T>(b, h, t), lane, p.D);
  const SoftmaxPart part = attend_chunk(query, key, value, first, min(kChunk, end - first),
                                        p.scale_log2, DropoutRule{}, 0, d, p.D, lane);
  float* to = p.part(bth, chunk);
  if (lane < Layout::kLanesOfRow) {
#pragma unroll
    for (int j = 0; j < kPart; ++j) {
      if (d + j < p.D) to[d + j] = part.out[j];
    }
  }
  if (lane == 0 && blockIdx.z == 0) {
    to[p.D] = part.largest;
    to[p.D + 1] = part.sum;
  }
  if (arrives_last(p.arrivals + bth, static_cast<unsigned>(count) * gridDim.z, lane)) {
    join_chunks<Layout>(p, bth, count, lane);
    if (lane == 0) p.arrivals[bth] = 0;
  }
}

}  // namespace

void CudaDevice::attention_cached(const AttentionCached& p) {
  check(p);
  const Shape& shape = p.out.shape();
  const int B = static_cast<int>(shape[0]), T = static_cast<int>(shape[1]), H = p.heads;
  const int S = static_cast<int>(p.k_cache.shape()[2]), D = static_cast<int>(shape[2]) / H;
  const bool whole = whole_rows(D, kPart, p.out, p.qkv, p.k_cache, p.v_cache);
  Cached cached{.out = p.out.bytes(),
                .k_cache = p.k_cache.bytes(),
                .v_cache = p.v_cache.bytes(),
                .q = packed_rows(p.qkv, 0, H),
                .k = packed_rows(p.qkv, 1, H),
                .v = packed_rows(p.qkv, 2, H),
                .past = p.past.data<std::int32_t>(),
                .first_key = p.first_key ? p.first_key.data<std::int32_t>() : nullptr,
                .parts = nullptr,
                .arrivals = nullptr,
                .B = B,
                .H = H,
                .T = T,
                .S = S,
                .D = D,
                .chunks = (S + kChunk - 1) / kChunk,
                .scale_log2 = p.scale * kLog2e};
  const unsigned rows = static_cast<unsigned>(B * T * H);
  if (T <= kMaxQueries) {
    cached.parts = scratch<float>(std::int64_t{rows} * cached.chunks * (D + 2));
    cached.arrivals = arrivals(rows);
    with_layout(p.qkv.dtype(), whole, D, [&](auto layout) {
      QUIRE_LAUNCH(attention_chunks<decltype(layout)>,
                   dim3(rows, static_cast<unsigned>(cached.chunks), slices_of(D)), kWarp, 0,
                   stream_, cached);
    });
    return;
  }
  with_layout(p.qkv.dtype(), whole, D, [&](auto layout) {
    QUIRE_LAUNCH(attention_write_slots<decltype(layout)>, rows, kWarp, 0, stream_, cached);
  });
  const std::int64_t of_head = std::int64_t{S} * D;
  launch_attention({.out = cached.out,
                    .lse = nullptr,
                    .q = cached.q,
                    .k = {cached.k_cache, H * of_head, of_head, D},
                    .v = {cached.v_cache, H * of_head, of_head, D},
                    .past = cached.past,
                    .first_key = cached.first_key,
                    .first_key_of_batch = 1,
                    .first_key_of_query = 0,
                    .B = B,
                    .H = H,
                    .T = T,
                    .D = D,
                    .scale = p.scale,
                    .dropout = {}},
                   p.qkv.dtype(), whole, stream_);
}

}  // namespace quire::cuda

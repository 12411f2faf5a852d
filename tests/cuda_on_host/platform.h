// What the .cu files see in place of CUDA's headers when they are built for the CPU: the words of
// the language as macros, the built-in variables, and the intrinsics
// that the project's kernels use.
#pragma once

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <tuple>
#include <type_traits>
#include <utility>

#include "tests/cuda_on_host/block.h"
#include "tests/cuda_on_host/runtime.h"
#include "tests/cuda_on_host/warp.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)

using dim3 = quire::cuda_on_host::Index3;
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
struct alignas(16) float4 {
  float x, y, z, w;
};

#define threadIdx (::quire::cuda_on_host::current_thread->thread_index)
#define blockIdx (::quire::cuda_on_host::current_thread->block_index)
#define blockDim (::quire::cuda_on_host::current_thread->block_extents)
#define gridDim (::quire::cuda_on_host::current_thread->grid_extents)

#define __syncthreads() ::quire::cuda_on_host::sync_threads(QUIRE_SITE)
#define __threadfence() ::quire::cuda_on_host::thread_fence()
#define __syncwarp(...) ::quire::cuda_on_host::sync_warp(QUIRE_SITE __VA_OPT__(, ) __VA_ARGS__)
#define __shfl_sync(mask, value, ...)                                                         \
  ::quire::cuda_on_host::shuffle_any(QUIRE_SITE, ::quire::cuda_on_host::Shuffle::index, mask, \
                                     value, __VA_ARGS__)
#define __shfl_up_sync(mask, value, ...)                                                          \
  ::quire::cuda_on_host::shuffle_any(QUIRE_SITE, ::quire::cuda_on_host::Shuffle::up, mask, value, \
                                     __VA_ARGS__)
#define __shfl_xor_sync(mask, value, ...)                                                      \
  ::quire::cuda_on_host::shuffle_any(QUIRE_SITE, ::quire::cuda_on_host::Shuffle::exclusive_or, \
                                     mask, value, __VA_ARGS__)
#define __ballot_sync(mask, predicate) ::quire::cuda_on_host::ballot(QUIRE_SITE, mask, predicate)
#define __any_sync(mask, predicate) (__ballot_sync(mask, predicate) != 0)

namespace quire::cuda_on_host {

template <class T>
T shuffle_any(Site site, Shuffle kind, unsigned mask, T value, int argument, int width = 32) {
  static_assert(sizeof(T) <= sizeof(std::uint64_t) && std::is_trivially_copyable_v<T>);
  std::uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  bits = shuffle(site, kind, mask, bits, argument, width);
  std::memcpy(&value, &bits, sizeof(T));
  return value;
}

/// The launch's kernel with its arguments, queued on the stream.
template <class... P, class... A>
void launch_overlapped(bool overlaps, const char* name, void (*kernel)(P...), dim3 grid, dim3 block,
                       std::size_t shared_bytes, cudaStream_t stream, A&&... arguments) {
  std::tuple<P...> values(static_cast<P>(arguments)...);
  enqueue_kernel(
      stream, grid, block, shared_bytes, overlaps,
      [=, broken = is_broken(name)](std::function<void()> previous) {
        const auto thread = [&] {
          const Index3 at = current_thread->block_index;
          const bool last = at.x + 1 == grid.x && at.y + 1 == grid.y && at.z + 1 == grid.z;
          if (!(broken && last)) std::apply(kernel, values);
        };
        run_kernel(name, grid, block, shared_bytes, thread, {overlaps, std::move(previous)});
      });
}
template <class... P, class... A>
void launch(const char* name, void (*kernel)(P...), dim3 grid, dim3 block, std::size_t shared_bytes,
            cudaStream_t stream, A&&... arguments) {
  launch_overlapped(false, name, kernel, grid, block, shared_bytes, stream,
                    std::forward<A>(arguments)...);
}

}  // namespace quire::cuda_on_host

/// Atomics as CUDA has them: relaxed, the old value returned.
template <class T>
T atomicAdd(T* address, std::type_identity_t<T> value) {
  return std::atomic_ref<T>(*address).fetch_add(value, std::memory_order_relaxed);
}

template <class T>
T atomicOr(T* address, std::type_identity_t<T> value) {
  return std::atomic_ref<T>(*address).fetch_or(value, std::memory_order_relaxed);
}

using std::max;  // of integers; for floats say fmaxf, whose NaN is CUDA's
using std::min;
inline float rsqrtf(float x) {
  return 1.0f / std::sqrt(x);
}
inline float __expf(float x) {
  return std::exp(x);
}
inline float __fdividef(float a, float b) {
  return a / b;
}
inline int __popc(unsigned bits) {
  return std::popcount(bits);
}

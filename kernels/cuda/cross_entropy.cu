// The loss of each row and its gradient over the logits, a block for each row.
//
// Both ways hold the row in shared memory, so that logits are read from memory once, and backward
// writes them once: N·V and 2·N·V elements, 6.6 and 13.2 GB, 2.0 and 3.9 ms at 3.35 TB/s for 65,536
// tokens of GPT-2 in bf16. Its rows of 100 KB leave room for two blocks on an SM, one of which
// moves data while the other computes: one and two exponentials an element, of which two take 6,300
// of the 13,800 clocks that the row's traffic takes on its SM. Rows beyond shared memory pass
// through it by the chunk, and backward reads them a second time, from L2 if it still has them.
//
// GPT-2's rows of 50,257 elements start at any address. What a thread moves is chosen by address,
// 16 bytes at a time; what it sums is chosen by index, so that a row's sum does not depend on where
// the row lies. A target outside the vocabulary makes its row NaN: a device cannot throw.
#include <algorithm>
#include <bit>
#include <cstring>

#include "kernels/check.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/math.cuh"
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/vec.cuh"

namespace quire::cuda {
namespace {

constexpr int kMostThreads = 1024;

/// max(logits) and sum(exp(logits - max)) of a row.
struct Softmax {
  float largest;
  float sum;
};

__device__ __forceinline__ float loss_of(const Softmax& row, float target_logit) {
  return logf(row.sum) + (row.largest - target_logit);
}

/// What a row is to be: its loss and gradients are 0, all NaN, or computed.
enum class RowKind { ignored, impossible, plain };
__device__ __forceinline__ RowKind kind_of(std::int32_t target, int V) {
  if (target == kIgnoredTarget) return RowKind::ignored;
  return target < 0 || target >= V ? RowKind::impossible : RowKind::plain;
}

/// 16 bytes as words: packs of eight 16-bit elements would be moved one by one in shared memory.
template <class T>
__device__ __forceinline__ uint4 load_words(const T* from) {
#ifdef QUIRE_CUDA_ON_HOST
  uint4 words;
  std::memcpy(&words, from, sizeof(words));
  return words;
#else
  return *reinterpret_cast<const uint4*>(from);
#endif
}
template <class T>
__device__ __forceinline__ void store_words(T* to, uint4 words) {
#ifdef QUIRE_CUDA_ON_HOST
  std::memcpy(static_cast<void*>(to), &words, sizeof(words));
#else
  *reinterpret_cast<uint4*>(to) = words;
#endif
}

/// Calls work(v, words) for the 16-byte packs of a row that lie whole inside it, v the index of
/// their first element, and rest(v) for the elements before and behind them. kInFlight packs of a
/// thread are read before the first of them is used.
template <int kInFlight, class T, class Read, class Work, class Rest>
__device__ __forceinline__ void each_pack(int phase, int V, const Read& read, const Work& work,
                                          const Rest& rest) {
  const int thread = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
  const int head = std::min((kStep<T> - phase) % kStep<T>, V);
  const int packs = (V - head) / kStep<T>;
  for (int first = thread; first < packs; first += kInFlight * threads) {
    uint4 words[kInFlight];
#pragma unroll
    for (int j = 0; j < kInFlight; ++j) {
      if (first + j * threads < packs) {
        words[j] = read(head + (first + j * threads) * kStep<T>);
      }
    }
#pragma unroll
    for (int j = 0; j < kInFlight; ++j) {
      if (first + j * threads < packs) {
        work(head + (first + j * threads) * kStep<T>, words[j]);
      }
    }
  }
  const int tail = head + packs * kStep<T>;
  if (thread < head) rest(thread);
  if (tail + thread < V) rest(tail + thread);
}

/// Elements that the row's start lies behind a multiple of 16 bytes.
template <class T>
__device__ __forceinline__ int phase_of(const T* row) {
  return static_cast<int>(reinterpret_cast<std::uintptr_t>(row) % 16 / sizeof(T));
}

/// Room for the row in shared memory, as far behind a multiple of 16 bytes.
template <class T>
__device__ __forceinline__ T* room_for(const T* row) {
  return reinterpret_cast<T*>(QUIRE_DYNAMIC_SHARED) + phase_of(row);
}

/// Copies a row, or a part of one, and calls see(logit) for each element that the thread moves.
template <class T, class See>
__device__ __forceinline__ void hold(T* held, const T* row, int V, const See& see) {
  each_pack<2, T>(
      phase_of(row), V, [&](int v) { return load_words(row + v); },
      [&](int v, uint4 words) {
        store_words(held + v, words);
        const auto pack = std::bit_cast<Pack<T>>(words);
#pragma unroll
        for (int j = 0; j < kStep<T>; ++j) see(widen(pack.element[j]));
      },
      [&](int v) {
        held[v] = row[v];
        see(widen(held[v]));
      });
}

/// Of the block's row, which is in `held` afterwards. The same in all threads.
template <class T>
__device__ __forceinline__ Softmax softmax_and_hold(T* held, const T* row, int V) {
  float largest = -INFINITY;
  hold(held, row, V, [&](float logit) { largest = Largest{}(largest, logit); });
  largest = reduce_block(largest, -INFINITY, Largest{});  // and all of the row is there
  float sum = 0.0f;
#pragma unroll 8
  for (int v = static_cast<int>(threadIdx.x); v < V; v += static_cast<int>(blockDim.x)) {
    sum += fast_exp(widen(held[v]) - largest);
  }
  return {largest, block_sum(sum)};
}

constexpr int kChunk = 8;  // elements of a thread in a chunk of a long row

/// Of the block's row in one pass, by chunks that are in shared memory one after the other: a
/// thread's sum follows the largest of its own elements so far. The same in all threads.
template <class T>
__device__ __forceinline__ Softmax softmax_of_long_row(const T* row, int V) {
  const int thread = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
  T* const held = room_for(row);  // a chunk is a multiple of 16 bytes, so all of them lie alike
  Softmax own{-INFINITY, 0.0f};
  for (int first = 0; first < V; first += kChunk * threads) {
    const int count = std::min(kChunk * threads, V - first);
    __syncthreads();  // the chunk before has been read
    hold(held, row + first, count, [](float) {});
    __syncthreads();
    float x[kChunk];
#pragma unroll
    for (int j = 0; j < kChunk; ++j) {
      const int v = thread + j * threads;
      x[j] = v < count ? widen(held[v]) : -INFINITY;
    }
    float largest = own.largest;
#pragma unroll
    for (int j = 0; j < kChunk; ++j) largest = Largest{}(largest, x[j]);
    // Where all is -infinity so far, differences from it would be NaN.
    const float from = largest == -INFINITY ? 0.0f : largest;
    own.sum *= fast_exp(own.largest - from);
#pragma unroll
    for (int j = 0; j < kChunk; ++j) own.sum += fast_exp(x[j] - from);
    own.largest = largest;
  }
  const float largest = reduce_block(own.largest, -INFINITY, Largest{});
  const float factor = own.largest == -INFINITY ? 1.0f : fast_exp(own.largest - largest);
  return {largest, block_sum(own.sum * factor)};
}

/// Losses alone. kHeld: rows that backward holds too, summed as it sums them, so that a loss with
/// and one without gradients have the same bits.
template <class T, bool kHeld>
__global__ void __launch_bounds__(kMostThreads, 2)
    cross_entropy_forward(float* losses, const T* logits, const std::int32_t* targets, int V,
                          std::int64_t columns) {
  const std::int64_t n = blockIdx.x;
  const std::int32_t target = targets[n];
  const RowKind kind = kind_of(target, V);
  if (kind != RowKind::plain) {
    if (threadIdx.x == 0) losses[n] = kind == RowKind::ignored ? 0.0f : NAN;
    return;
  }
  const T* row = logits + n * columns;
  const Softmax softmax =
      kHeld ? softmax_and_hold(room_for(row), row, V) : softmax_of_long_row(row, V);
  if (threadIdx.x == 0) losses[n] = loss_of(softmax, widen(row[target]));
}

struct BackwardRows {
  float* losses;
  void* logits_to_grads;
  const std::int32_t* targets;
  int V;
  std::int64_t columns;  // of a row: V and what fills it up
  float scale;
};

/// Nothing is known of the columns behind the vocabulary; their gradient is 0.
template <class T>
__device__ __forceinline__ void clear_rest(const BackwardRows& p, T* row) {
  for (std::int64_t v = p.V + threadIdx.x; v < p.columns; v += blockDim.x) row[v] = narrow<T>(0.0f);
}

/// Writes loss and gradients of a row whose target is ignored (0) or impossible (NaN).
template <class T>
__device__ __forceinline__ bool filled_unless_plain(const BackwardRows& p, std::int32_t target,
                                                    T* row) {
  const RowKind kind = kind_of(target, p.V);
  if (kind == RowKind::plain) return false;
  const float value = kind == RowKind::ignored ? 0.0f : NAN;
  if (threadIdx.x == 0) p.losses[blockIdx.x] = value;
  Pack<T> filled;
#pragma unroll
  for (int j = 0; j < kStep<T>; ++j) filled.element[j] = narrow<T>(value);
  each_pack<1, T>(
      phase_of(row), p.V, [&](int) { return std::bit_cast<uint4>(filled); },
      [&](int v, uint4 words) { store_words(row + v, words); },
      [&](int v) { row[v] = narrow<T>(value); });
  return true;
}

/// The gradient of one element.
struct Gradient {
  float largest, inverse, scale;
  int target;
  __device__ __forceinline__ float operator()(int v, float logit) const {
    const float p = fast_exp(logit - largest) * inverse;
    return (v == target ? p - 1.0f : p) * scale;
  }
};

/// Turns `logits`, the row itself or its copy at the same phase, into the row's gradients.
template <int kInFlight, class T>
__device__ __forceinline__ void write_gradients(T* row, const T* logits, int V,
                                                const Gradient& gradient) {
  each_pack<kInFlight, T>(
      phase_of(row), V, [&](int v) { return load_words(logits + v); },
      [&](int v, uint4 words) {
        auto pack = std::bit_cast<Pack<T>>(words);
#pragma unroll
        for (int j = 0; j < kStep<T>; ++j) {
          pack.element[j] = narrow<T>(gradient(v + j, widen(pack.element[j])));
        }
        store_words(row + v, std::bit_cast<uint4>(pack));
      },
      [&](int v) { row[v] = narrow<T>(gradient(v, widen(logits[v]))); });
}

template <class T>
__global__ void __launch_bounds__(kMostThreads, 2) cross_entropy_rows_in_shared(BackwardRows p) {
  const std::int64_t n = blockIdx.x;
  const std::int32_t target = p.targets[n];
  T* row = static_cast<T*>(p.logits_to_grads) + n * p.columns;
  clear_rest(p, row);
  if (filled_unless_plain(p, target, row)) return;
  T* const held = room_for(row);
  const Softmax softmax = softmax_and_hold(held, row, p.V);
  if (threadIdx.x == 0) p.losses[n] = loss_of(softmax, widen(held[target]));
  const Gradient gradient{softmax.largest, 1.0f / softmax.sum, p.scale, target};
  write_gradients<1, T>(row, held, p.V, gradient);
}

template <class T>
__global__ void __launch_bounds__(kMostThreads) cross_entropy_long_rows(BackwardRows p) {
  const std::int64_t n = blockIdx.x;
  const std::int32_t target = p.targets[n];
  T* row = static_cast<T*>(p.logits_to_grads) + n * p.columns;
  clear_rest(p, row);
  if (filled_unless_plain(p, target, row)) return;
  const float target_logit = widen(row[target]);
  const Softmax softmax = softmax_of_long_row(row, p.V);  // its barriers end the reading of the row
  if (threadIdx.x == 0) p.losses[n] = loss_of(softmax, target_logit);
  const Gradient gradient{softmax.largest, 1.0f / softmax.sum, p.scale, target};
  write_gradients<2, T>(row, row, p.V, gradient);
}

/// By the vocabulary alone: the order of the sums hangs on it.
int threads_for(std::int64_t V) {
  int threads = kWarp;
  while (threads < kMostThreads && threads * 8 < V) threads *= 2;
  return threads;
}

template <class T>
bool can_hold(std::int64_t V, const cudaDeviceProp& properties) {
  constexpr std::size_t kOfReductions = 1024;  // bytes, more than their arrays take
  return static_cast<std::size_t>(V + kStep<T>) * sizeof(T) + kOfReductions <=
         properties.sharedMemPerBlockOptin;
}

/// Launches a kernel of a block for each row, with shared memory for the row or for its chunks.
template <class T, class... P, class... A>
void launch_rows(void (*kernel)(P...), bool held, std::int64_t rows, std::int64_t V,
                 cudaStream_t stream, const A&... arguments) {
  const int threads = threads_for(V);
  const std::size_t elements = held ? static_cast<std::size_t>(V) : kChunk * threads;
  const std::size_t bytes = (elements + kStep<T>)*sizeof(T);
  QUIRE_CUDA(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                  static_cast<int>(bytes)),
             "cross_entropy");
  QUIRE_LAUNCH(kernel, static_cast<unsigned>(rows), threads, bytes, stream, arguments...);
}

}  // namespace

void CudaDevice::cross_entropy_forward(const CrossEntropyForward& p) {
  check(p);
  const std::int64_t V = p.vocabulary();
  dispatch(p.logits.dtype(), [&](auto zero) {
    using T = decltype(zero);
    choose(can_hold<T>(V, properties_), [&](auto held) {
      launch_rows<T>(cuda::cross_entropy_forward<T, held()>, held(), p.targets.count(), V, stream_,
                     p.losses.data<float>(), p.logits.data<T>(), p.targets.data<std::int32_t>(),
                     static_cast<int>(V), p.logits.shape()[1]);
    });
  });
}

void CudaDevice::cross_entropy_backward(const CrossEntropyBackward& p) {
  check(p);
  const std::int64_t V = p.vocabulary();
  const BackwardRows rows{.losses = p.losses.data<float>(),
                          .logits_to_grads = p.logits_to_grads.bytes(),
                          .targets = p.targets.data<std::int32_t>(),
                          .V = static_cast<int>(V),
                          .columns = p.logits_to_grads.shape()[1],
                          .scale = p.scale};
  dispatch(p.logits_to_grads.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const bool held = can_hold<T>(V, properties_);
    launch_rows<T>(held ? cross_entropy_rows_in_shared<T> : cross_entropy_long_rows<T>, held,
                   p.targets.count(), V, stream_, rows);
  });
}

}  // namespace quire::cuda

// The loss of each row and its gradient over the logits, a block for each row.
//
// Both ways hold the row in shared memory, so that logits are read from memory once, and backward
// writes them once: N·V and 2·N·V elements, 6.6 and 13.2 GB, 2.0 and 3.9 ms at 3.35 TB/s for 65,536
// tokens of GPT-2 in bf16. Its rows of 100 KB leave room for two blocks on an SM, one of which
// moves data while the other computes: one and two exponentials an element, of which two take 6,300
// of the 13,800 clocks that the row's traffic takes on its SM, and 6.3 and 12.5 issue slots an
// element, the latter 4,900 clocks. Rows beyond shared memory pass through it by the chunk, and
// backward reads them a second time, from L2 if it still has them.
//
// What a thread moves is chosen by address, 16 bytes at a time; what it sums is chosen by index, in
// packs of 16 bytes, so that a row's sum does not depend on where the row lies nor on what stands
// behind the vocabulary. Rows that begin at multiples of 16 bytes are faster: GPT-2's have 50,257
// elements, wherefore the engine has its logits filled up (vocab_multiple). A target outside the
// vocabulary makes its row NaN: a device cannot throw.
#include <algorithm>
#include <bit>
#include <cstring>

#include "kernels/cuda/device.h"
#include "kernels/cuda/math.cuh"
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/vec.cuh"

namespace quire::cuda {
namespace {

constexpr int kMostThreads = 512;  // 64 registers each for two blocks on an SM: 4 packs under way

/// e^(x - base): two instructions for an element. The base is a whole number of powers of two
/// near the row's largest logit, so a sum can go from one base to another without an error.
struct Exponential {
  float factor, base;  // 2^(x·factor - base)

  __device__ __forceinline__ explicit Exponential(float largest) {
    // Beyond 2^30 floats are 64 and more apart: all but the largest are 0, while products with
    // log2(e) would be off by powers of two.
    const bool huge = !(fabsf(largest) < 0x1p30f);
    factor = huge ? 1.0f : kLog2e;
    base = huge ? largest : rintf(largest * kLog2e);
  }
  __device__ __forceinline__ float operator()(float x) const {
    return fast_exp2(fmaf(x, factor, -base));
  }
  /// What a sum of exponentials of `from` is times in a sum of this one's.
  __device__ __forceinline__ float of(const Exponential& from) const {
    return factor == from.factor ? fast_exp2(from.base - base) : 0.0f;
  }
};

/// A row's exponentials, and their sum.
struct Softmax {
  Exponential exponential;
  float sum;
};

__device__ __forceinline__ float loss_of(const Softmax& row, float target_logit) {
  const float above = fmaf(-target_logit, row.exponential.factor, row.exponential.base);
  return fmaf(above, row.exponential.factor == kLog2e ? kLn2 : 1.0f, logf(row.sum));
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
/// The same of global memory that is not used again soon: the first to leave the caches.
template <class T>
__device__ __forceinline__ uint4 load_streaming(const T* from) {
  return std::bit_cast<uint4>(load_pack<Load::once, kStep<T>>(from));
}
template <class T>
__device__ __forceinline__ void store_streaming(T* to, uint4 words) {
  store_pack<Store::once>(to, std::bit_cast<Pack<T>>(words));
}

/// Calls work(v, words) for the 16-byte packs of a row that lie whole inside it, v the index of
/// their first element, and rest(v) for the elements before and behind them. kInFlight packs of a
/// thread are read before the first of them is used; behind the end it is the last one again, so
/// that no load waits for a branch.
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
      words[j] = read(head + std::min(first + j * threads, packs - 1) * kStep<T>);
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

/// A row, or a part of one, in shared memory. There it begins at a multiple of 16 bytes, so packs
/// of its elements are moved at once where it begins at one in global memory too, as all rows do
/// whose length is a multiple of 8; elsewhere the packs of the two lie across each other.
template <class T>
struct HeldRow {
  T* elements;
  bool together;

  __device__ __forceinline__ explicit HeldRow(const T* row)
      : elements(reinterpret_cast<T*>(QUIRE_DYNAMIC_SHARED)), together(phase_of(row) == 0) {}

  static constexpr std::int64_t bytes(std::int64_t count) {
    return (count * sizeof(T) + 15) / 16 * 16;
  }

  __device__ __forceinline__ void put(int v, uint4 words) {
    if (together) return store_words(elements + v, words);
    const auto pack = std::bit_cast<Pack<T>>(words);
#pragma unroll
    for (int j = 0; j < kStep<T>; ++j) elements[v + j] = pack.element[j];
  }
  __device__ __forceinline__ uint4 get(int v) const {
    if (together) return load_words(elements + v);
    Pack<T> pack;
#pragma unroll
    for (int j = 0; j < kStep<T>; ++j) pack.element[j] = elements[v + j];
    return std::bit_cast<uint4>(pack);
  }

  /// Copies V elements of a row here, filled up with minus infinity to whole packs, and returns the
  /// largest of those that the thread moves. They are here after a barrier.
  template <class Load>
  __device__ __forceinline__ float hold(const T* row, int V, const Load& load) {
    const std::uint32_t nothing = word_of(narrow<T>(-INFINITY));
    std::uint32_t largest = nothing;
    each_pack<4, T>(
        phase_of(row), V, [&](int v) { return load(row + v); },
        [&](int v, uint4 words) {
          put(v, words);
          largest = largest_of_words<T>(largest,
                                        largest_of_words<T>(largest_of_words<T>(words.x, words.y),
                                                            largest_of_words<T>(words.z, words.w)));
        },
        [&](int v) {
          elements[v] = row[v];
          largest = largest_of_words<T>(largest, word_of(row[v]));
        });
    const int behind = V + static_cast<int>(threadIdx.x);
    if (behind < (V + kStep<T> - 1) / kStep<T> * kStep<T>) elements[behind] = narrow<T>(-INFINITY);
    float both[kOfWord<T>];
    widen_word<T>(largest, both);
    return Largest{}(both[0], both[kOfWord<T> - 1]);
  }

  /// Calls see(element) for all elements of pack `pack`.
  template <class See>
  __device__ __forceinline__ void each_of(int pack, const See& see) const {
    const uint4 words = load_words(elements + pack * kStep<T>);
    for (const std::uint32_t word : {words.x, words.y, words.z, words.w}) {
      float wide[kOfWord<T>];
      widen_word<T>(word, wide);
#pragma unroll
      for (int i = 0; i < kOfWord<T>; ++i) see(wide[i]);
    }
  }

 private:
  __device__ __forceinline__ static std::uint32_t word_of(T element) {
    if constexpr (sizeof(T) == 4)
      return std::bit_cast<std::uint32_t>(element);
    else
      return element.bits | std::uint32_t{element.bits} << 16;
  }
};

/// Of the block's row, which is in `held` afterwards. The same in all threads.
template <class T>
__device__ __forceinline__ Softmax softmax_and_hold(HeldRow<T>& held, const T* row, int V) {
  float largest = held.hold(row, V, [](const T* from) { return load_streaming(from); });
  largest = reduce_block(largest, -INFINITY, Largest{});  // and all of the row is there
  const Exponential exponential(largest);
  const int packs = (V + kStep<T> - 1) / kStep<T>;
  float sum = 0.0f;
#pragma unroll 2
  for (int pack = static_cast<int>(threadIdx.x); pack < packs;
       pack += static_cast<int>(blockDim.x)) {
    held.each_of(pack, [&](float logit) { sum += exponential(logit); });
  }
  return {exponential, block_sum(sum)};
}

constexpr int kChunk = 8;  // elements of a thread in a chunk of a long row

/// Of the block's row in one pass, by chunks that are in shared memory one after the other: a
/// thread's sum follows the largest of its own elements so far. The same in all threads.
template <class T>
__device__ __forceinline__ Softmax softmax_of_long_row(const T* row, int V) {
  const int thread = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
  HeldRow<T> held(row);  // a chunk is a multiple of 16 bytes, so all of them lie alike
  float largest = -INFINITY, sum = 0.0f;
  Exponential exponential(0.0f);
  for (int first = 0; first < V; first += kChunk * threads) {
    const int count = std::min(kChunk * threads, V - first);
    __syncthreads();  // the chunk before has been read
    held.hold(row + first, count, [](const T* from) { return load_words(from); });
    __syncthreads();
    float x[kChunk];
#pragma unroll
    for (int j = 0; j < kChunk / kStep<T>; ++j) {
      const int pack = thread + j * threads;
      float* to = x + j * kStep<T>;
      if (pack * kStep<T> < count) {
        held.each_of(pack, [&](float logit) { *to++ = logit; });
      } else {
#pragma unroll
        for (int i = 0; i < kStep<T>; ++i) to[i] = -INFINITY;
      }
    }
    const bool had_some = largest != -INFINITY;  // else the sum is 0 still
#pragma unroll
    for (int j = 0; j < kChunk; ++j) largest = Largest{}(largest, x[j]);
    // Where all is -infinity so far, differences from it would be NaN.
    const Exponential next(largest == -INFINITY ? 0.0f : largest);
    if (had_some) sum *= next.of(exponential);
#pragma unroll
    for (int j = 0; j < kChunk; ++j) sum += next(x[j]);
    exponential = next;
  }
  const Exponential of_all(reduce_block(largest, -INFINITY, Largest{}));
  return {of_all, block_sum(largest == -INFINITY ? sum : sum * of_all.of(exponential))};
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
  HeldRow<T> held(row);
  const Softmax softmax = kHeld ? softmax_and_hold(held, row, V) : softmax_of_long_row(row, V);
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
      [&](int v, uint4 words) { store_streaming(row + v, words); },
      [&](int v) { row[v] = narrow<T>(value); });
  return true;
}

/// Turns the row into its gradients; logits(v) are the words of the pack at v, logit(v) an element.
template <int kInFlight, class T, class Words, class Logit>
__device__ __forceinline__ void write_gradients(T* row, const BackwardRows& p, int target,
                                                float target_logit, const Softmax& softmax,
                                                const Words& logits, const Logit& logit) {
  const Exponential& exponential = softmax.exponential;
  const float inverse = 1.0f / softmax.sum, factor = inverse * p.scale;
  const float of_target = fmaf(exponential(target_logit), inverse, -1.0f) * p.scale;
  // One element of the row is another: whose thread is known, and it writes it once more.
  each_pack<kInFlight, T>(
      phase_of(row), p.V, logits,
      [&](int v, uint4 words) {
        const auto gradients = [&](std::uint32_t word) {
          float wide[kOfWord<T>];
          widen_word<T>(word, wide);
#pragma unroll
          for (int i = 0; i < kOfWord<T>; ++i) wide[i] = exponential(wide[i]) * factor;
          return narrow_word<T>(wide);
        };
        words = {gradients(words.x), gradients(words.y), gradients(words.z), gradients(words.w)};
        store_streaming(row + v, words);
        if (static_cast<unsigned>(target - v) < kStep<T>) row[target] = narrow<T>(of_target);
      },
      [&](int v) { row[v] = narrow<T>(v == target ? of_target : exponential(logit(v)) * factor); });
}

template <class T>
__global__ void __launch_bounds__(kMostThreads, 2) cross_entropy_rows_in_shared(BackwardRows p) {
  const std::int64_t n = blockIdx.x;
  const std::int32_t target = p.targets[n];
  T* row = static_cast<T*>(p.logits_to_grads) + n * p.columns;
  clear_rest(p, row);
  if (filled_unless_plain(p, target, row)) return;
  HeldRow<T> held(row);
  const Softmax softmax = softmax_and_hold(held, row, p.V);
  const float target_logit = widen(held.elements[target]);
  if (threadIdx.x == 0) p.losses[n] = loss_of(softmax, target_logit);
  write_gradients<1>(
      row, p, target, target_logit, softmax, [&](int v) { return held.get(v); },
      [&](int v) { return widen(held.elements[v]); });
}

template <class T>
__global__ void __launch_bounds__(kMostThreads, 2) cross_entropy_long_rows(BackwardRows p) {
  const std::int64_t n = blockIdx.x;
  const std::int32_t target = p.targets[n];
  T* row = static_cast<T*>(p.logits_to_grads) + n * p.columns;
  clear_rest(p, row);
  if (filled_unless_plain(p, target, row)) return;
  const float target_logit = widen(row[target]);
  const Softmax softmax = softmax_of_long_row(row, p.V);  // its barriers end the reading of the row
  if (threadIdx.x == 0) p.losses[n] = loss_of(softmax, target_logit);
  write_gradients<4>(
      row, p, target, target_logit, softmax, [&](int v) { return load_words(row + v); },
      [&](int v) { return widen(row[v]); });
}

template <class T>
bool can_hold(std::int64_t V, const cudaDeviceProp& properties) {
  constexpr std::size_t kOfReductions = 1024;  // bytes, more than their arrays take
  return static_cast<std::size_t>(HeldRow<T>::bytes(V)) + kOfReductions <=
         properties.sharedMemPerBlockOptin;
}

/// Launches a kernel of a block for each row, with shared memory for the row or for its chunks.
template <class T, class... P, class... A>
void launch_rows(void (*kernel)(P...), bool held, std::int64_t rows, std::int64_t V,
                 cudaStream_t stream, const A&... arguments) {
  const int threads = threads_for(V, kMostThreads);
  const auto bytes = static_cast<std::size_t>(HeldRow<T>::bytes(held ? V : kChunk * threads));
  allow_shared(kernel, bytes, "cross_entropy");
  QUIRE_LAUNCH(kernel, static_cast<unsigned>(rows), threads, bytes, stream, arguments...);
}

}  // namespace

void CudaDevice::do_cross_entropy_forward(const CrossEntropyForward& p) {
  const std::int64_t V = p.vocabulary();
  dispatch(p.logits.dtype(), [&]<class T>() {
    choose(can_hold<T>(V, properties_), [&](auto held) {
      launch_rows<T>(cuda::cross_entropy_forward<T, held()>, held(), p.targets.count(), V, stream_,
                     p.losses.data<float>(), p.logits.data<T>(), p.targets.data<std::int32_t>(),
                     static_cast<int>(V), p.logits.shape()[1]);
    });
  });
}

void CudaDevice::do_cross_entropy_backward(const CrossEntropyBackward& p) {
  const std::int64_t V = p.vocabulary();
  const BackwardRows rows{.losses = p.losses.data<float>(),
                          .logits_to_grads = p.logits_to_grads.bytes(),
                          .targets = p.targets.data<std::int32_t>(),
                          .V = static_cast<int>(V),
                          .columns = p.logits_to_grads.shape()[1],
                          .scale = p.scale};
  dispatch(p.logits_to_grads.dtype(), [&]<class T>() {
    const bool held = can_hold<T>(V, properties_);
    launch_rows<T>(held ? cross_entropy_rows_in_shared<T> : cross_entropy_long_rows<T>, held,
                   p.targets.count(), V, stream_, rows);
  });
}

}  // namespace quire::cuda

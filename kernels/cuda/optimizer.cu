// AdamW in one launch over all tensors, and the squared norm that clipping wants.
//
// A block takes a chunk of a tensor, a thread 4 elements at a time, 16 bytes of float. AdamW reads
// p, g, m and v and writes p, m and v: 28 bytes a parameter, 3.5 GB or 1.04 ms at 3.35 TB/s for
// GPT-2's 124 million; 30 bytes with a copy in 16 bits, 24 where p itself is bf16. The norm reads 4
// bytes, 0.15 ms, and sums in double: the squares of floats are exact there and their sum cannot
// overflow. Its two stages (chunks, then one block over them) have one order whatever runs first.
#include <cmath>

#include "kernels/check.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/vec.cuh"

namespace quire::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kGroup = 4;
constexpr int kBlockStep = kThreads * kGroup;
static_assert(TensorTable::kChunk % kBlockStep == 0);

/// The step's numbers, rounded from double where they are made.
struct Factors {
  float rest1, beta2, rest2, rate, root_correction, eps, grad_scale;
  double lr;
  RandomKey key;  // of stochastic rounding
};

/// 4 elements as they lie in memory: 8 bytes of a 16-bit type.
template <class T>
struct alignas(4 * sizeof(T)) Four {
  T element[4];
};

/// load_row and store_row for 4 elements of any type.
template <bool kWhole, class T>
__device__ __forceinline__ void load_four(const T* row, int i, int C, float (&out)[kGroup]) {
  if constexpr (kWhole) {
    const Four<T> four = *reinterpret_cast<const Four<T>*>(row + i);
#pragma unroll
    for (int j = 0; j < kGroup; ++j) out[j] = widen(four.element[j]);
  } else {
    load_row<false>(row, i, C, out);
  }
}
template <bool kWhole, class T>
__device__ __forceinline__ void store_four(T* row, int i, int C, const float (&values)[kGroup]) {
  if constexpr (kWhole) {
    Four<T> four;
#pragma unroll
    for (int j = 0; j < kGroup; ++j) four.element[j] = narrow<T>(values[j]);
    *reinterpret_cast<Four<T>*>(row + i) = four;
  } else {
    store_row<false>(row, i, C, values);
  }
}

/// Numbers place … place + 3 of the stream.
__device__ __forceinline__ void random_numbers(RandomKey key, std::int64_t place,
                                               std::uint32_t (&numbers)[kGroup]) {
  const auto first = static_cast<std::uint64_t>(place);
  const int skipped = static_cast<int>(first % 4);  // of a block, behind a tensor of odd size
  const auto a = random_block(key, first / 4);
  auto b = a;
  if (skipped != 0) b = random_block(key, first / 4 + 1);
  const std::uint32_t both[] = {a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3]};
#pragma unroll
  for (int j = 0; j < kGroup; ++j) {
    numbers[j] = skipped < 2 ? (skipped == 0 ? both[j] : both[j + 1])
                             : (skipped == 2 ? both[j + 2] : both[j + 3]);
  }
}

/// Writes params in bf16, the first of which is element `place` of all tensors.
template <bool kWhole>
__device__ __forceinline__ void store_rounded(BFloat16* row, int i, int C, float (&p)[kGroup],
                                              RandomKey key, std::int64_t place) {
  std::uint32_t numbers[kGroup] = {};
  random_numbers(key, place, numbers);
#pragma unroll
  for (int j = 0; j < kGroup; ++j) p[j] = widen(round_stochastically(p[j], numbers[j]));
  store_four<kWhole>(row, i, C, p);
}

template <bool kWhole, bool kRounded>
__device__ __forceinline__ void step_of_chunk(const TensorEntry& tensor, std::int64_t first,
                                              const Factors& f) {
  const std::int64_t rest = tensor.count - first;
  const int C = static_cast<int>(rest < TensorTable::kChunk ? rest : TensorTable::kChunk);
  const float decay = static_cast<float>(1.0 - f.lr * double{tensor.weight_decay});
  const bool in_bf16 = kRounded && tensor.param_type == DType::bf16;
  for (int i = static_cast<int>(threadIdx.x) * kGroup; i < C; i += kBlockStep) {
    float p[kGroup], g[kGroup], m[kGroup], v[kGroup];
    if (in_bf16) {
      load_four<kWhole>(static_cast<const BFloat16*>(tensor.param) + first, i, C, p);
    } else {
      load_four<kWhole>(static_cast<const float*>(tensor.param) + first, i, C, p);
    }
    load_four<kWhole>(tensor.grad + first, i, C, g);
    load_four<kWhole>(tensor.m + first, i, C, m);
    load_four<kWhole>(tensor.v + first, i, C, v);
#pragma unroll
    for (int j = 0; j < kGroup; ++j) {
      const float scaled = g[j] * f.grad_scale;
      m[j] = fmaf(scaled - m[j], f.rest1, m[j]);
      v[j] = fmaf(f.rest2 * scaled, scaled, f.beta2 * v[j]);
      const float divisor = sqrtf(v[j]) / f.root_correction + f.eps;
      p[j] = fmaf(-f.rate, m[j] / divisor, p[j] * decay);
    }
    store_four<kWhole>(tensor.m + first, i, C, m);
    store_four<kWhole>(tensor.v + first, i, C, v);
    if (in_bf16) {
      store_rounded<kWhole>(static_cast<BFloat16*>(tensor.param) + first, i, C, p, f.key,
                            tensor.place + first + i);
    } else {
      store_four<kWhole>(static_cast<float*>(tensor.param) + first, i, C, p);
    }
    if (tensor.copy == nullptr) continue;
    if (tensor.copy_type == DType::bf16) {
      store_four<kWhole>(static_cast<BFloat16*>(tensor.copy) + first, i, C, p);
    } else {
      store_four<kWhole>(static_cast<Half*>(tensor.copy) + first, i, C, p);
    }
  }
}

/// kRounded: some params are bf16, rounded stochastically.
template <bool kRounded>
__global__ void __launch_bounds__(kThreads, 4)
    adamw_chunks(const TensorEntry* tensors, const TensorTable::Chunk* chunks, Factors f) {
  const TensorTable::Chunk chunk = chunks[blockIdx.x];
  const TensorEntry tensor = tensors[chunk.tensor];
  if (tensor.whole) {
    step_of_chunk<true, kRounded>(tensor, chunk.first, f);
  } else {
    step_of_chunk<false, kRounded>(tensor, chunk.first, f);
  }
}

/// The same elements meet in the same order in both cases.
template <bool kWhole>
__device__ __forceinline__ double squares_of_chunk(const TensorEntry& tensor, std::int64_t first) {
  const std::int64_t rest = tensor.count - first;
  const int C = static_cast<int>(rest < TensorTable::kChunk ? rest : TensorTable::kChunk);
  double sum = 0.0;
#pragma unroll 2
  for (int i = static_cast<int>(threadIdx.x) * kGroup; i < C; i += kBlockStep) {
    float x[kGroup];
    load_four<kWhole>(tensor.grad + first, i, C, x);
#pragma unroll
    for (int j = 0; j < kGroup; ++j) sum = fma(double{x[j]}, double{x[j]}, sum);
  }
  return sum;
}

__global__ void __launch_bounds__(kThreads)
    sum_squares(const TensorEntry* tensors, const TensorTable::Chunk* chunks, double* partial) {
  const TensorTable::Chunk chunk = chunks[blockIdx.x];
  const TensorEntry tensor = tensors[chunk.tensor];
  const double own = tensor.whole ? squares_of_chunk<true>(tensor, chunk.first)
                                  : squares_of_chunk<false>(tensor, chunk.first);
  const double sum = reduce_block(own, 0.0, Add{});
  if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

__global__ void __launch_bounds__(kThreads)
    sum_partials(double* sum, const double* partial, int count) {
  double own = 0.0;
#pragma unroll 4
  for (int i = static_cast<int>(threadIdx.x); i < count; i += kThreads) own += partial[i];
  own = reduce_block(own, 0.0, Add{});
  if (threadIdx.x == 0) *sum = own;
}

}  // namespace

void CudaDevice::adamw(const AdamwStep& s) {
  check(s);
  if (s.tensors.empty()) return;
  std::vector<TensorEntry> entries;
  entries.reserve(s.tensors.size());
  std::int64_t place = 0;
  bool rounded = false;
  for (const AdamwTensor& tensor : s.tensors) {
    const std::int64_t count = tensor.param.count();
    entries.push_back({.param = tensor.param.bytes(),
                       .grad = tensor.grad.data<float>(),
                       .m = tensor.m.data<float>(),
                       .v = tensor.v.data<float>(),
                       .copy = tensor.copy.bytes(),
                       .count = count,
                       .place = place,
                       .weight_decay = tensor.weight_decay,
                       .param_type = tensor.param.dtype(),
                       .copy_type = tensor.copy.dtype(),
                       .whole = whole_rows(count, kGroup, tensor.param, tensor.grad, tensor.m,
                                           tensor.v, tensor.copy)});
    place += count;
    rounded = rounded || tensor.param.dtype() == DType::bf16;
  }
  adamw_tensors_.assign(std::move(entries), stream_);
  const double step = static_cast<double>(s.step), beta1 = s.beta1, beta2 = s.beta2;
  const Factors factors{
      .rest1 = static_cast<float>(1.0 - beta1),
      .beta2 = s.beta2,
      .rest2 = static_cast<float>(1.0 - beta2),
      .rate = static_cast<float>(double{s.lr} / (1.0 - std::pow(beta1, step))),
      .root_correction = static_cast<float>(std::sqrt(1.0 - std::pow(beta2, step))),
      .eps = s.eps,
      .grad_scale = s.grad_scale,
      .lr = s.lr,
      .key = s.stochastic_rounding.value_or(RandomKey{})};
  choose(rounded, [&](auto r) {
    QUIRE_LAUNCH(adamw_chunks<r()>, adamw_tensors_.blocks(), kThreads, 0, stream_,
                 adamw_tensors_.entries(), adamw_tensors_.chunks(), factors);
  });
}

double CudaDevice::squared_norm(std::span<const ConstView> tensors) {
  check_squared_norm(tensors);
  if (tensors.empty()) return 0.0;
  std::vector<TensorEntry> entries;
  entries.reserve(tensors.size());
  for (const ConstView& tensor : tensors) {
    entries.push_back({.grad = tensor.data<float>(),
                       .count = tensor.count(),
                       .whole = whole_rows(tensor.count(), kGroup, tensor)});
  }
  norm_tensors_.assign(std::move(entries), stream_);
  const unsigned blocks = norm_tensors_.blocks();
  double* const partial = scratch<double>(std::int64_t{blocks} + 1);
  QUIRE_LAUNCH(sum_squares, blocks, kThreads, 0, stream_, norm_tensors_.entries(),
               norm_tensors_.chunks(), partial + 1);
  QUIRE_LAUNCH(sum_partials, 1, kThreads, 0, stream_, partial, partial + 1,
               static_cast<int>(blocks));
  double sum = 0.0;
  copy_to_host(&sum, partial, sizeof(sum));
  return sum;
}

}  // namespace quire::cuda

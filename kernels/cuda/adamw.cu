// AdamW in one launch over all tensors, and the squared norm that clipping wants.
//
// A block takes a chunk of a tensor, a thread 4 elements at a time, 16 bytes of float. AdamW reads
// p, g, m and v and writes p, m and v: 28 bytes a parameter, 3.5 GB or 1.04 ms at 3.35 TB/s for
// GPT-2's 124 million; 30 bytes with a copy in 16 bits. The norm reads 4
// bytes, 0.15 ms, and sums in double: the squares of floats are exact there and their sum cannot
// overflow. Its two stages (chunks, then one block over them) have one order whatever runs first.
#include <cmath>

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
};

/// kSteps groups of 4 elements of a chunk of C, the first at i < C and the others a block's step
/// apart, so that neighbours take neighbours. For those beyond the end the first once more: other
/// threads write theirs.
template <bool kWhole, int kSteps>
__device__ __forceinline__ void fetch_steps(Packs<float, kGroup> (&groups)[kSteps],
                                            const float* chunk, int i, int C) {
#pragma unroll
  for (int s = 0; s < kSteps; ++s) {
    const int place = i + s * kBlockStep;
    groups[s] = fetch<kWhole, kGroup, Load::once>(chunk, place < C ? place : i, C);
  }
}

/// The table's pointers point to global memory, which the compiler cannot know.
template <bool kWhole>
__device__ __forceinline__ void step_of_chunk(const TensorEntry& tensor, std::int64_t first,
                                              const Factors& f) {
  constexpr int kSteps = 2;  // eight loads of a thread under way
  const std::int64_t rest = tensor.count - first;
  const int C = static_cast<int>(rest < TensorTable::kChunk ? rest : TensorTable::kChunk);
  const float decay = static_cast<float>(1.0 - f.lr * double{tensor.weight_decay});
  float* const param = in_global(tensor.param) + first;
  float* const m = in_global(tensor.m) + first;
  float* const v = in_global(tensor.v) + first;
  const float* const grad = in_global(tensor.grad) + first;
  for (int begin = static_cast<int>(threadIdx.x) * kGroup; begin < C;
       begin += kSteps * kBlockStep) {
    Packs<float, kGroup> of_p[kSteps], of_g[kSteps], of_m[kSteps], of_v[kSteps];
    fetch_steps<kWhole>(of_p, param, begin, C);
    fetch_steps<kWhole>(of_g, grad, begin, C);
    fetch_steps<kWhole>(of_m, m, begin, C);
    fetch_steps<kWhole>(of_v, v, begin, C);
#pragma unroll
    for (int s = 0; s < kSteps; ++s) {
      const int i = begin + s * kBlockStep;
      float new_p[kGroup], new_m[kGroup], new_v[kGroup];
#pragma unroll
      for (int j = 0; j < kGroup; ++j) {
        const float scaled = of_g[s].element[j] * f.grad_scale;
        const float old_m = of_m[s].element[j];
        new_m[j] = fmaf(scaled - old_m, f.rest1, old_m);
        new_v[j] = fmaf(f.rest2 * scaled, scaled, f.beta2 * of_v[s].element[j]);
        const float divisor = sqrtf(new_v[j]) / f.root_correction + f.eps;
        new_p[j] = fmaf(-f.rate, new_m[j] / divisor, of_p[s].element[j] * decay);
      }
      store_row<kWhole, Store::once>(m, i, C, new_m);
      store_row<kWhole, Store::once>(v, i, C, new_v);
      store_row<kWhole, Store::once>(param, i, C, new_p);
      if (tensor.copy == nullptr) continue;
      if (tensor.copy_type == DType::bf16) {
        store_row<kWhole>(static_cast<BFloat16*>(in_global(tensor.copy)) + first, i, C, new_p);
      } else {
        store_row<kWhole>(static_cast<Half*>(in_global(tensor.copy)) + first, i, C, new_p);
      }
    }
  }
}

__global__ void __launch_bounds__(kThreads, 4)
    adamw_chunks(const TensorEntry* tensors, const TensorTable::Chunk* chunks, Factors f) {
  const TensorTable::Chunk chunk = chunks[blockIdx.x];
  const TensorEntry tensor = tensors[chunk.tensor];
  if (tensor.whole) {
    step_of_chunk<true>(tensor, chunk.first, f);
  } else {
    step_of_chunk<false>(tensor, chunk.first, f);
  }
}

/// The same elements meet in the same order in both cases.
template <bool kWhole>
__device__ __forceinline__ double squares_of_chunk(const TensorEntry& tensor, std::int64_t first) {
  const std::int64_t rest = tensor.count - first;
  const int C = static_cast<int>(rest < TensorTable::kChunk ? rest : TensorTable::kChunk);
  constexpr int kSteps = TensorTable::kChunk / kBlockStep;
  Packs<float, kGroup> groups[kSteps];
  const int own = static_cast<int>(threadIdx.x) * kGroup;
  double sum = 0.0;
  if (own >= C) return sum;
  fetch_steps<kWhole>(groups, in_global(tensor.grad) + first, own, C);
#pragma unroll
  for (int s = 0; s < kSteps; ++s) {
    float x[kGroup];
    widen<kWhole>(groups[s], own + s * kBlockStep, C, x);
#pragma unroll
    for (int j = 0; j < kGroup; ++j) sum = fma(double{x[j]}, double{x[j]}, sum);
  }
  return sum;
}

__global__ void __launch_bounds__(kThreads, 4)
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

void CudaDevice::do_adamw(const AdamwStep& s) {
  if (s.tensors.empty()) return;
  std::vector<TensorEntry> entries;
  entries.reserve(s.tensors.size());
  for (const AdamwTensor& tensor : s.tensors) {
    const std::int64_t count = tensor.param.count();
    entries.push_back({.param = tensor.param.data<float>(),
                       .grad = tensor.grad.data<float>(),
                       .m = tensor.m.data<float>(),
                       .v = tensor.v.data<float>(),
                       .copy = tensor.copy.bytes(),
                       .count = count,
                       .weight_decay = tensor.weight_decay,
                       .copy_type = tensor.copy.dtype(),
                       .whole = whole_rows(count, kGroup, tensor.param, tensor.grad, tensor.m,
                                           tensor.v, tensor.copy)});
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
      .lr = s.lr};
  QUIRE_LAUNCH(adamw_chunks, adamw_tensors_.blocks(), kThreads, 0, stream_,
               adamw_tensors_.entries(), adamw_tensors_.chunks(), factors);
}

double CudaDevice::do_squared_norm(std::span<const ConstView> tensors) {
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

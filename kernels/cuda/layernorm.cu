// Layer normalisation, the residual addition fused in front of it, and its gradients.
//
// A warp takes a row and keeps it in registers, so a row is read once: forward moves 2·N·C elements
// (4·N·C with the residual), backward 4·N·C. Rows longer than the registers take are read again
// from the cache. Sums over a row run in one order whatever the number of rows. The gradients of
// weight and bias are summed in two stages without atomics: each block over its own rows, then one
// kernel over the blocks.
#include <algorithm>

#include "kernels/cuda/device.h"
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/vec.cuh"

namespace quire::cuda {
namespace {

constexpr int kWarpsPerBlock = 8;
constexpr int kThreads = kWarpsPerBlock * kWarp;
/// Elements a lane takes at a time: 16 bytes of a 16-bit type, twice 16 of float.
constexpr int kGroup = 8;
constexpr int kWarpStride = kWarp * kGroup;

/// The part of a row that a lane holds, as it lies in memory: groups l, l + 32, … of the row's
/// groups of 8. Rows are whole.
template <class T, int kGroups>
struct RowPart {
  Packs<T, kGroup> packs[kGroups];

  template <Load kLoad = Load::plain>
  __device__ __forceinline__ void fetch_row(const T* row, int lane, int C) {
#pragma unroll
    for (int g = 0; g < kGroups; ++g) {
      packs[g] = fetch<true, kGroup, kLoad>(row, (g * kWarp + lane) * kGroup, C);
    }
  }
  __device__ __forceinline__ void stay_packed() {
#pragma unroll
    for (int g = 0; g < kGroups; ++g) hold_packed(packs[g]);
  }
};

struct ForwardRows {
  void* sum;  // null: no residual
  void* out;
  float* mean;  // null: not wanted
  float* rstd;
  const void* x;
  const void* branch;
  const float* weight;
  const float* bias;
  std::int64_t N;
  int C;
  float eps;
};

/// Whole rows of up to kGroups·256 elements, in registers.
template <class T, int kGroups, bool kResidual>
__global__ void __launch_bounds__(kThreads) layernorm_rows(ForwardRows p) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const std::int64_t n = std::int64_t{blockIdx.x} * kWarpsPerBlock + threadIdx.x / kWarp;
  if (n >= p.N) return;
  constexpr Load kLoad = kResidual ? Load::once : Load::plain;  // x has another reader without
  RowPart<T, kGroups> row;
  row.template fetch_row<kLoad>(static_cast<const T*>(p.x) + n * p.C, lane, p.C);
  if constexpr (kResidual) {
    RowPart<T, kGroups> branch;
    branch.template fetch_row<kLoad>(static_cast<const T*>(p.branch) + n * p.C, lane, p.C);
    __syncwarp();  // sum may be x, of which a lane beyond the row's end has fetched another's part
#pragma unroll
    for (int g = 0; g < kGroups; ++g) {
      float sum[kGroup], other[kGroup];
      widen(row.packs[g], sum);
      widen(branch.packs[g], other);
      // The sum is normalised as it is stored: the backward op reads it from there.
#pragma unroll
      for (int j = 0; j < kGroup; ++j) row.packs[g].element[j] = narrow<T>(sum[j] + other[j]);
      store_packs(static_cast<T*>(p.sum) + n * p.C, (g * kWarp + lane) * kGroup, p.C, row.packs[g]);
    }
  }
  float total = 0.0f;
#pragma unroll
  for (int g = 0; g < kGroups; ++g) {
    float x[kGroup];
    widen<true>(row.packs[g], (g * kWarp + lane) * kGroup, p.C, x);
#pragma unroll
    for (int j = 0; j < kGroup; ++j) total += x[j];
  }
  const float mean = warp_sum(total) / static_cast<float>(p.C);
  row.stay_packed();
  float squares = 0.0f;
#pragma unroll
  for (int g = 0; g < kGroups; ++g) {
    float x[kGroup];
    widen(row.packs[g], x);
    if ((g * kWarp + lane) * kGroup >= p.C) continue;
#pragma unroll
    for (int j = 0; j < kGroup; ++j) squares += (x[j] - mean) * (x[j] - mean);
  }
  const float rstd = rsqrtf(warp_sum(squares) / static_cast<float>(p.C) + p.eps);
  row.stay_packed();
#pragma unroll
  for (int g = 0; g < kGroups; ++g) {
    const int i = (g * kWarp + lane) * kGroup;
    const auto of_weight = fetch<true, kGroup>(p.weight, i, p.C);
    const auto of_bias = fetch<true, kGroup>(p.bias, i, p.C);
    float x[kGroup], weight[kGroup], bias[kGroup];
    widen(row.packs[g], x);
    widen(of_weight, weight);
    widen(of_bias, bias);
#pragma unroll
    for (int j = 0; j < kGroup; ++j) x[j] = (x[j] - mean) * rstd * weight[j] + bias[j];
    store_row<true>(static_cast<T*>(p.out) + n * p.C, i, p.C, x);
  }
  if (lane == 0 && p.mean != nullptr) p.mean[n] = mean;
  if (lane == 0 && p.rstd != nullptr) p.rstd[n] = rstd;
}

/// All other rows: the same sums in the same order, the row read again for each.
template <class T, bool kWhole, bool kResidual>
__global__ void __launch_bounds__(kThreads) layernorm_any_rows(ForwardRows p) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const std::int64_t n = std::int64_t{blockIdx.x} * kWarpsPerBlock + threadIdx.x / kWarp;
  if (n >= p.N) return;
  const T* x = static_cast<const T*>(p.x) + n * p.C;
  float total = 0.0f;
  for (int i = lane * kGroup; i < p.C; i += kWarpStride) {
    const auto of_x = fetch<kWhole, kGroup>(x, i, p.C);
    float part[kGroup];
    if constexpr (kResidual) {
      const auto of_branch =
          fetch<kWhole, kGroup>(static_cast<const T*>(p.branch) + n * p.C, i, p.C);
      float branch[kGroup];
      widen<kWhole>(of_branch, i, p.C, branch);
      widen<kWhole>(of_x, i, p.C, part);
#pragma unroll
      for (int j = 0; j < kGroup; ++j) part[j] = widen(narrow<T>(part[j] + branch[j]));
      store_row<kWhole>(static_cast<T*>(p.sum) + n * p.C, i, p.C, part);
    } else {
      widen<kWhole>(of_x, i, p.C, part);
    }
#pragma unroll
    for (int j = 0; j < kGroup; ++j) total += part[j];
  }
  if constexpr (kResidual) x = static_cast<const T*>(p.sum) + n * p.C;  // each lane reads its own
  const float mean = warp_sum(total) / static_cast<float>(p.C);
  float squares = 0.0f;
  for (int i = lane * kGroup; i < p.C; i += kWarpStride) {
    float part[kGroup];
    load_row<kWhole>(x, i, p.C, part, mean);
#pragma unroll
    for (int j = 0; j < kGroup; ++j) squares += (part[j] - mean) * (part[j] - mean);
  }
  const float rstd = rsqrtf(warp_sum(squares) / static_cast<float>(p.C) + p.eps);
  for (int i = lane * kGroup; i < p.C; i += kWarpStride) {
    const auto of_x = fetch<kWhole, kGroup>(x, i, p.C);
    const auto of_weight = fetch<kWhole, kGroup>(p.weight, i, p.C);
    const auto of_bias = fetch<kWhole, kGroup>(p.bias, i, p.C);
    float part[kGroup], weight[kGroup], bias[kGroup];
    widen(of_x, part);
    widen(of_weight, weight);
    widen(of_bias, bias);
#pragma unroll
    for (int j = 0; j < kGroup; ++j) part[j] = (part[j] - mean) * rstd * weight[j] + bias[j];
    store_row<kWhole>(static_cast<T*>(p.out) + n * p.C, i, p.C, part);
  }
  if (lane == 0 && p.mean != nullptr) p.mean[n] = mean;
  if (lane == 0 && p.rstd != nullptr) p.rstd[n] = rstd;
}

struct BackwardRows {
  void* d_x;
  float* partial = nullptr;  // [blocks, 2, C]: weight's and bias's; null where they are frozen
  const void* d_out;
  const void* x;
  const float* weight;
  const float* mean;
  const float* rstd;
  std::int64_t N;
  int C;
};

/// Adds up what the warps of a block have of the parameters' gradients, in their order.
template <int kGroups>
__device__ __forceinline__ void sum_of_warps(float* partial,  // [2, C]
                                             const float (&d_weight)[kGroups][kGroup],
                                             const float (&d_bias)[kGroups][kGroup], int C) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  QUIRE_SHARED(float, of_warps, kWarpsPerBlock* kWarpStride);
#pragma unroll
  for (int part = 0; part < 2; ++part) {
#pragma unroll
    for (int g = 0; g < kGroups; ++g) {
      __syncthreads();
#pragma unroll
      for (int j = 0; j < kGroup; ++j) {
        // Lane by lane in the inner place, so that neighbours write to different banks.
        of_warps[warp * kWarpStride + j * kWarp + lane] = part == 0 ? d_weight[g][j] : d_bias[g][j];
      }
      __syncthreads();
      const int i = static_cast<int>(threadIdx.x);  // kThreads == kWarpStride: an element each
      float sum = 0.0f;
#pragma unroll
      for (int w = 0; w < kWarpsPerBlock; ++w) sum += of_warps[w * kWarpStride + i];
      const int c = (g * kWarp + i % kWarp) * kGroup + i / kWarp;
      if (c < C) partial[part * C + c] = sum;
    }
  }
}

/// One pass: each warp takes rows in turn, adds to d_x, and sums its part of the parameters'
/// gradients in registers; at the end the block's warps are added up, in order. In 16 bits x, d_out
/// and d_x are all on their way at once, nine loads for 768 columns, and stay packed:
/// two blocks fit an SM. Rows of float have no room for that: d_x comes when it is needed,
/// and two groups of x are read again, from the cache; of seven groups five,
/// or registers are spilled (72 bytes a lane with two read again).
template <class T, int kGroups>
__global__ void __launch_bounds__(kThreads, kGroups <= 3 ? 2 : 1)
    layernorm_backward_rows(BackwardRows p) {
  constexpr bool kAhead = sizeof(T) == 2 || kGroups == 1;  // d_x comes with the others
  constexpr int kOfFloats = kGroups == 7 ? 2 : std::max(1, kGroups - 2);
  constexpr int kHeld = sizeof(T) == 2 ? kGroups : kOfFloats;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  float d_weight[kGroups][kGroup] = {}, d_bias[kGroups][kGroup] = {};
  const std::int64_t step = std::int64_t{gridDim.x} * kWarpsPerBlock;
  for (std::int64_t n = std::int64_t{blockIdx.x} * kWarpsPerBlock + warp; n < p.N; n += step) {
    const T* const x = static_cast<const T*>(p.x) + n * p.C;
    T* const d_x = static_cast<T*>(p.d_x) + n * p.C;
    RowPart<T, kGroups> of_d_out, of_d_x;
    RowPart<T, kHeld> of_x;
    of_x.fetch_row(x, lane, p.C);
    of_d_out.fetch_row(static_cast<const T*>(p.d_out) + n * p.C, lane, p.C);
    if constexpr (kAhead) of_d_x.fetch_row(d_x, lane, p.C);
    const float mean = p.mean[n], rstd = p.rstd[n];
    // Of group g: the rows' elements, widened; beyond the row's end d_out is 0.
    const auto widen_group = [&](int g, float(&norm)[kGroup], float(&d_out)[kGroup],
                                 float(&gradient)[kGroup]) {
      const int i = (g * kWarp + lane) * kGroup;
      const auto of_weight = fetch<true, kGroup>(p.weight, i, p.C);
      float weight[kGroup];
      widen(g < kHeld ? of_x.packs[g] : fetch<true, kGroup>(x, i, p.C), norm);
      widen<true>(of_d_out.packs[g], i, p.C, d_out);
      widen(of_weight, weight);
#pragma unroll
      for (int j = 0; j < kGroup; ++j) {
        norm[j] = (norm[j] - mean) * rstd;
        gradient[j] = d_out[j] * weight[j];
      }
    };
    float norm[kGroup], d_out[kGroup], gradient[kGroup];
    float sum_g = 0.0f, sum_gn = 0.0f;
#pragma unroll
    for (int g = 0; g < kGroups; ++g) {
      widen_group(g, norm, d_out, gradient);
#pragma unroll
      for (int j = 0; j < kGroup; ++j) {
        d_weight[g][j] += d_out[j] * norm[j];
        d_bias[g][j] += d_out[j];
        sum_g += gradient[j];
        sum_gn += gradient[j] * norm[j];
      }
    }
    const float mean_g = warp_sum(sum_g) / static_cast<float>(p.C);
    const float mean_gn = warp_sum(sum_gn) / static_cast<float>(p.C);
    of_x.stay_packed();
    of_d_out.stay_packed();
    if constexpr (kAhead) __syncwarp();  // lanes beyond the row's end have fetched another's d_x
#pragma unroll
    for (int g = 0; g < kGroups; ++g) {
      float sum[kGroup];
      widen_group(g, norm, d_out, gradient);
      const int i = (g * kWarp + lane) * kGroup;
      const int own = i < p.C ? i : lane * kGroup;  // other lanes write theirs
      widen(kAhead ? of_d_x.packs[g] : fetch<true, kGroup>(d_x, own, p.C), sum);
#pragma unroll
      for (int j = 0; j < kGroup; ++j) {
        sum[j] += rstd * (gradient[j] - mean_g - norm[j] * mean_gn);
      }
      store_row<true>(d_x, i, p.C, sum);
    }
  }
  if (p.partial == nullptr) return;

  sum_of_warps(p.partial + std::int64_t{blockIdx.x} * 2 * p.C, d_weight, d_bias, p.C);
}
static_assert(kThreads == kWarpStride);

/// All other rows: d_x with the row read twice, and the parameters' gradients below.
template <class T, bool kWhole>
__global__ void __launch_bounds__(kThreads) layernorm_backward_any_rows(BackwardRows p) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const std::int64_t n = std::int64_t{blockIdx.x} * kWarpsPerBlock + threadIdx.x / kWarp;
  if (n >= p.N) return;
  const T* x = static_cast<const T*>(p.x) + n * p.C;
  const T* d_out = static_cast<const T*>(p.d_out) + n * p.C;
  const float mean = p.mean[n], rstd = p.rstd[n];
  float sum_g = 0.0f, sum_gn = 0.0f;
  for (int i = lane * kGroup; i < p.C; i += kWarpStride) {
    float value[kGroup], gradient[kGroup], weight[kGroup];
    load_row<kWhole>(x, i, p.C, value, mean);
    load_row<kWhole>(d_out, i, p.C, gradient);
    load_row<kWhole>(p.weight, i, p.C, weight);
#pragma unroll
    for (int j = 0; j < kGroup; ++j) {
      sum_g += gradient[j] * weight[j];
      sum_gn += gradient[j] * weight[j] * ((value[j] - mean) * rstd);
    }
  }
  const float mean_g = warp_sum(sum_g) / static_cast<float>(p.C);
  const float mean_gn = warp_sum(sum_gn) / static_cast<float>(p.C);
  for (int i = lane * kGroup; i < p.C; i += kWarpStride) {
    float value[kGroup], gradient[kGroup], weight[kGroup], d_x[kGroup];
    load_row<kWhole>(x, i, p.C, value);
    load_row<kWhole>(d_out, i, p.C, gradient);
    load_row<kWhole>(p.weight, i, p.C, weight);
    load_row<kWhole>(static_cast<const T*>(p.d_x) + n * p.C, i, p.C, d_x);
#pragma unroll
    for (int j = 0; j < kGroup; ++j) {
      d_x[j] += rstd * (gradient[j] * weight[j] - mean_g - (value[j] - mean) * rstd * mean_gn);
    }
    store_row<kWhole>(static_cast<T*>(p.d_x) + n * p.C, i, p.C, d_x);
  }
}

/// A column each thread: neighbours read neighbours.
template <class T>
__global__ void layernorm_parameters_of_any_rows(BackwardRows p) {
  const int c = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (c >= p.C) return;
  float d_weight = 0.0f, d_bias = 0.0f;
  for (std::int64_t n = blockIdx.y; n < p.N; n += gridDim.y) {
    const float d_out = widen(static_cast<const T*>(p.d_out)[n * p.C + c]);
    const float x = widen(static_cast<const T*>(p.x)[n * p.C + c]);
    d_weight += d_out * ((x - p.mean[n]) * p.rstd[n]);
    d_bias += d_out;
  }
  p.partial[(std::int64_t{blockIdx.y} * 2 + 0) * p.C + c] = d_weight;
  p.partial[(std::int64_t{blockIdx.y} * 2 + 1) * p.C + c] = d_bias;
}

/// Adds up what the blocks have summed, in their order.
__global__ void layernorm_add_partials(float* d_weight, float* d_bias, const float* partial,
                                       int blocks, int C) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i >= 2 * C) return;
  float sum = 0.0f;
  for (int b = 0; b < blocks; ++b) sum += partial[std::int64_t{b} * 2 * C + i];
  float* target = i < C ? d_weight + i : d_bias + (i - C);
  *target += sum;
}

/// Calls work with the number of groups of 256 elements that a row of C takes, as a constant; 0 for
/// rows that do not go into registers.
/// Of GPT-2's sizes 768 takes 3, 1024 and 1280 take 5, 1600 takes 7.
template <class Work>
void with_groups(bool whole, std::int64_t C, const Work& work) {
  if (!whole || C > 7 * kWarpStride) return work(std::integral_constant<int, 0>{});
  if (C <= 1 * kWarpStride) return work(std::integral_constant<int, 1>{});
  if (C <= 3 * kWarpStride) return work(std::integral_constant<int, 3>{});
  if (C <= 5 * kWarpStride) return work(std::integral_constant<int, 5>{});
  work(std::integral_constant<int, 7>{});
}

/// Without a branch x itself is normalised.
void launch_forward(const ResidualLayernormForward& p, cudaStream_t stream) {
  const std::int64_t C = p.weight.count();
  const ForwardRows rows{.sum = p.sum.bytes(),
                         .out = p.out.bytes(),
                         .mean = p.mean.data<float>(),
                         .rstd = p.rstd.data<float>(),
                         .x = p.x.bytes(),
                         .branch = p.branch.bytes(),
                         .weight = p.weight.data<float>(),
                         .bias = p.bias.data<float>(),
                         .N = p.x.count() / C,
                         .C = static_cast<int>(C),
                         .eps = p.eps};
  const bool whole = whole_rows(C, kGroup, p.sum, p.out, p.x, p.branch, p.weight, p.bias);
  const unsigned blocks = blocks_of(rows.N, kWarpsPerBlock);
  dispatch(p.x.dtype(), [&]<class T>() {
    choose(rows.sum != nullptr, [&](auto residual) {
      with_groups(whole, rows.C, [&](auto groups) {
        if constexpr (groups() > 0) {
          QUIRE_LAUNCH((layernorm_rows<T, groups(), residual()>), blocks, kThreads, 0, stream,
                       rows);
        } else {
          choose(whole, [&](auto w) {
            QUIRE_LAUNCH((layernorm_any_rows<T, w(), residual()>), blocks, kThreads, 0, stream,
                         rows);
          });
        }
      });
    });
  });
}

}  // namespace

void CudaDevice::do_residual_layernorm_forward(const ResidualLayernormForward& p) {
  launch_forward(p, stream_);
}

void CudaDevice::do_layernorm_backward(const LayernormBackward& p) {
  const std::int64_t C = p.weight.count(), N = p.x.count() / C;
  const bool frozen = !p.d_weight.view;
  BackwardRows rows{.d_x = p.d_x.view.bytes(),
                    .d_out = p.d_out.bytes(),
                    .x = p.x.bytes(),
                    .weight = p.weight.data<float>(),
                    .mean = p.mean.data<float>(),
                    .rstd = p.rstd.data<float>(),
                    .N = N,
                    .C = static_cast<int>(C)};
  const unsigned blocks = persistent_blocks(blocks_of(N, kWarpsPerBlock), 2);
  if (!frozen) rows.partial = scratch<float>(std::int64_t{blocks} * 2 * C);
  const bool whole = whole_rows(C, kGroup, p.d_x.view, p.d_out, p.x, p.weight);
  dispatch(p.x.dtype(), [&]<class T>() {
    with_groups(whole, C, [&](auto groups) {
      if constexpr (groups() > 0) {
        QUIRE_LAUNCH((layernorm_backward_rows<T, groups()>), blocks, kThreads, 0, stream_, rows);
        return;
      }
      choose(whole, [&](auto w) {
        QUIRE_LAUNCH((layernorm_backward_any_rows<T, w()>), blocks_of(N, kWarpsPerBlock), kThreads,
                     0, stream_, rows);
      });
      if (frozen) return;
      QUIRE_LAUNCH(layernorm_parameters_of_any_rows<T>, dim3(blocks_of(C, kThreads), blocks),
                   kThreads, 0, stream_, rows);
    });
  });
  if (frozen) return;
  QUIRE_LAUNCH(layernorm_add_partials, blocks_of(2 * C, kThreads), kThreads, 0, stream_,
               p.d_weight.view.data<float>(), p.d_bias.view.data<float>(), rows.partial,
               static_cast<int>(blocks), static_cast<int>(C));
}

}  // namespace quire::cuda

// Products of a few rows with a weight: decoding.
//
// Every weight is read once, for all rows together, and the time is that of reading it: K·N
// elements, 2·M·K·N flops. At batch 1 GPT-2's 124M parameters in 16 bits are 247 MB a token: 74 µs
// at 3.35 TB/s. A block owns a strip of outputs, so nothing is summed across blocks; the order of a
// sum depends on K alone, not on the number of rows.
#include "kernels/cuda/matvec.h"

#include <limits>

#include "kernels/cuda/activation.cuh"
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/vec.cuh"

namespace quire::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarp;
/// Elements of x, of all rows together, that a block holds in shared memory at a time: 32 KB.
constexpr int kHeld = 8192;
constexpr int kPart = 8;  // elements a thread takes at a time: 16 bytes of a 16-bit type

/// What comes before the product, where something does: the rows are those of x + branch, written
/// to sum, normalised.
struct Before {
  void* sum;
  const void* branch;
  const float* weight;  // null: nothing does
  const float* bias;
  float eps;
};
struct Matvec {
  void* out;             // [rows, N]
  bool out_is_float;     // else x's type
  void* pre_activation;  // [rows, N] of x's type, or null
  const void* x;         // [rows, K]
  const void* weight;    // [K, N] or [N, K]
  const float* bias;     // [N], or null
  int rows, K, N;
  Activation activation;
  Before before;
};
struct Statistics {
  float mean, rstd;
};

/// Elements [k, k + 8) of x + branch, as they are stored.
template <class X>
__device__ __forceinline__ void load_sum(const Matvec& p, std::int64_t row, int k,
                                         float (&values)[kPart]) {
  float branch[kPart];
  load_row<true>(static_cast<const X*>(p.x) + row * p.K, k, p.K, values);
  load_row<true>(static_cast<const X*>(p.before.branch) + row * p.K, k, p.K, branch);
#pragma unroll
  for (int j = 0; j < kPart; ++j) values[j] = widen(narrow<X>(values[j] + branch[j]));
}

/// A warp for each row. Every block does it for itself, which costs less than a launch; the first
/// one writes the sums.
template <class X>
__device__ void add_and_measure(Statistics* statistics, const Matvec& p) {
  const int row = static_cast<int>(threadIdx.x) / kWarp,
            lane = static_cast<int>(threadIdx.x) % kWarp;
  if (row >= p.rows) return;
  float total = 0.0f, values[kPart];
#pragma unroll 2  // four spill registers on sm_80
  for (int k = lane * kPart; k < p.K; k += kWarp * kPart) {
    load_sum<X>(p, row, k, values);
    if (blockIdx.x == 0) {
      store_row<true>(static_cast<X*>(p.before.sum) + std::int64_t{row} * p.K, k, p.K, values);
    }
#pragma unroll
    for (int j = 0; j < kPart; ++j) total += values[j];
  }
  const float mean = warp_sum(total) / static_cast<float>(p.K);
  float squares = 0.0f;
#pragma unroll 2
  for (int k = lane * kPart; k < p.K; k += kWarp * kPart) {
    load_sum<X>(p, row, k, values);
#pragma unroll
    for (int j = 0; j < kPart; ++j) squares += (values[j] - mean) * (values[j] - mean);
  }
  const float variance = warp_sum(squares) / static_cast<float>(p.K);
  if (lane == 0) statistics[row] = {mean, rsqrtf(variance + p.before.eps)};
}

/// Copies the rows' elements [first, first + depth) to shared memory as floats, [M, depth], through
/// the layernorm where there is one. Whole parts: K is a multiple of 8.
template <int M, class X>
__device__ __forceinline__ void hold(float* held, const Statistics* statistics, const Matvec& p,
                                     int first, int depth) {
  __syncthreads();  // the part before has been used, and statistics are there
  for (int i = static_cast<int>(threadIdx.x) * kPart; i < M * depth; i += kThreads * kPart) {
    const int m = i / depth, k = first + i % depth;
    float values[kPart] = {};
    if (m < p.rows && p.before.weight == nullptr) {
      load_row<true>(static_cast<const X*>(p.x) + std::int64_t{m} * p.K, k, p.K, values);
    } else if (m < p.rows) {
      float weight[kPart], bias[kPart];
      load_sum<X>(p, m, k, values);
      load_row<true>(p.before.weight, k, p.K, weight);
      load_row<true>(p.before.bias, k, p.K, bias);
      const Statistics s = statistics[m];
#pragma unroll
      for (int j = 0; j < kPart; ++j) {
        values[j] = widen(narrow<X>((values[j] - s.mean) * s.rstd * weight[j] + bias[j]));
      }
    }
    store_row<true>(held, i, M * depth, values);
  }
  __syncthreads();
}

/// The sum and what is done to it.
template <class X>
__device__ __forceinline__ void store(const Matvec& p, int m, int n, float sum) {
  const std::int64_t i = std::int64_t{m} * p.N + n;
  if (p.bias != nullptr) sum += p.bias[n];
  if (p.pre_activation != nullptr) static_cast<X*>(p.pre_activation)[i] = narrow<X>(sum);
  with_activation(p.activation, [&]<Activation kKind>() { sum = activate<kKind>(sum); });
  if (p.out_is_float) {
    static_cast<float*>(p.out)[i] = sum;
  } else {
    static_cast<X*>(p.out)[i] = narrow<X>(sum);
  }
}

/// weight [K, N]: four lanes take 32 columns of a row of the weight, a warp eight rows at a time, a
/// block 64. Partial sums meet in shared memory.
template <int M, class X, class W>
__global__ void __launch_bounds__(kThreads) matvec_in_out(Matvec p) {
  constexpr int kColumns = 32, kLanes = kColumns / kPart, kRowsAtOnce = kThreads / kLanes;
  QUIRE_SHARED(float, held, kHeld);
  QUIRE_SHARED(Statistics, statistics, kMatvecRows);
  if (p.before.weight != nullptr) add_and_measure<X>(statistics, p);
  const auto* weight = static_cast<const W*>(p.weight);
  const int group = static_cast<int>(threadIdx.x) % kLanes;
  const int row = static_cast<int>(threadIdx.x) / kLanes;
  const int n = static_cast<int>(blockIdx.x) * kColumns + group * kPart;
  float sums[M][kPart] = {};
  constexpr int kDepth = kHeld / M;
  for (int first = 0; first < p.K; first += kDepth) {
    const int depth = min(kDepth, p.K - first);
    hold<M, X>(held, statistics, p, first, depth);
    for (int k = row; k < depth; k += kRowsAtOnce) {
      float w[kPart];
      load_row<true>(weight + std::int64_t{first + k} * p.N, n, p.N, w);
#pragma unroll
      for (int m = 0; m < M; ++m) {
        const float factor = held[m * depth + k];
#pragma unroll
        for (int j = 0; j < kPart; ++j) sums[m][j] += factor * w[j];
      }
    }
  }
  // The eight rows of a warp by shuffles, the warps in order.
#pragma unroll
  for (int m = 0; m < M; ++m) {
#pragma unroll
    for (int j = 0; j < kPart; ++j) sums[m][j] = reduce_groups<kLanes>(sums[m][j], Add{});
  }
  __syncthreads();
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  if (static_cast<int>(threadIdx.x) % kWarp < kLanes) {
#pragma unroll
    for (int m = 0; m < M; ++m) {
#pragma unroll
      for (int j = 0; j < kPart; ++j) {
        held[(warp * M + m) * kColumns + group * kPart + j] = sums[m][j];
      }
    }
  }
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < M * kColumns; i += kThreads) {
    const int m = i / kColumns, column = static_cast<int>(blockIdx.x) * kColumns + i % kColumns;
    if (m >= p.rows || column >= p.N) continue;
    float sum = 0.0f;
    for (int w = 0; w < kWarps; ++w) sum += held[(w * M + m) * kColumns + i % kColumns];
    store<X>(p, m, column, sum);
  }
}
static_assert(kWarps * kMatvecRows * 32 <= kHeld && kMatvecRows <= kWarps);

/// weight [N, K]: a warp takes one row of the weight.
template <int M, class X, class W>
__global__ void __launch_bounds__(kThreads) matvec_out_in(Matvec p) {
  QUIRE_SHARED(float, held, kHeld);
  QUIRE_SHARED(Statistics, statistics, kMatvecRows);
  if (p.before.weight != nullptr) add_and_measure<X>(statistics, p);
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int n = static_cast<int>(blockIdx.x * kWarps + threadIdx.x / kWarp);
  const W* weight = static_cast<const W*>(p.weight) + std::int64_t{n} * p.K;
  float sums[M] = {};
  constexpr int kDepth = kHeld / M;
  for (int first = 0; first < p.K; first += kDepth) {
    const int depth = min(kDepth, p.K - first);
    hold<M, X>(held, statistics, p, first, depth);
    if (n >= p.N) continue;
    for (int k = lane * kPart; k < depth; k += kWarp * kPart) {
      float w[kPart];
      load_row<true>(weight + first, k, depth, w);
#pragma unroll
      for (int m = 0; m < M; ++m) {
        float factors[kPart];
        load_row<true>(held + m * depth, k, depth, factors);
#pragma unroll
        for (int j = 0; j < kPart; ++j) sums[m] += factors[j] * w[j];
      }
    }
  }
#pragma unroll
  for (int m = 0; m < M; ++m) sums[m] = warp_sum(sums[m]);
  if (n >= p.N || lane >= p.rows) return;
  float sum = 0.0f;
#pragma unroll
  for (int m = 0; m < M; ++m) {
    if (lane == m) sum = sums[m];
  }
  store<X>(p, lane, n, sum);
}

template <class X, class W>
void launch(const Matvec& p, WeightLayout layout, cudaStream_t stream) {
  const auto with_rows = [&](auto rows) {
    constexpr int M = decltype(rows)::value;
    if (layout == WeightLayout::in_out) {
      QUIRE_LAUNCH((matvec_in_out<M, X, W>), static_cast<unsigned>((p.N + 31) / 32), kThreads, 0,
                   stream, p);
    } else {
      QUIRE_LAUNCH((matvec_out_in<M, X, W>), static_cast<unsigned>((p.N + kWarps - 1) / kWarps),
                   kThreads, 0, stream, p);
    }
  };
  if (p.rows == 1) {
    with_rows(std::integral_constant<int, 1>{});
  } else if (p.rows <= 4) {
    with_rows(std::integral_constant<int, 4>{});
  } else {
    with_rows(std::integral_constant<int, 8>{});
  }
}

}  // namespace

bool takes_matvec(const MatmulForward& p) {
  const Shape& weight = p.weight.shape();
  const std::int64_t K = p.x.shape()[1];
  constexpr std::int64_t kMost = std::numeric_limits<int>::max() - kThreads;  // of all indices
  return p.x.shape()[0] <= kMatvecRows && weight[0] <= kMost && weight[1] <= kMost &&
         whole_rows(weight[1], kPart, p.weight) && whole_rows(K, kPart, p.x) &&
         (!p.bias || p.bias.dtype() == DType::f32) &&
         (p.x.dtype() == DType::f32 || p.x.dtype() == p.weight.dtype());
}

namespace {

Matvec arguments_of(const MatmulForward& p) {
  const bool in_out = p.layout == WeightLayout::in_out;
  return {.out = p.out.bytes(),
          .out_is_float = p.out.dtype() == DType::f32,
          .pre_activation = p.pre_activation.bytes(),
          .x = p.x.bytes(),
          .weight = p.weight.bytes(),
          .bias = p.bias ? p.bias.data<float>() : nullptr,
          .rows = static_cast<int>(p.x.shape()[0]),
          .K = static_cast<int>(p.weight.shape()[in_out ? 0 : 1]),
          .N = static_cast<int>(p.weight.shape()[in_out ? 1 : 0]),
          .activation = p.activation,
          .before = {}};
}

void launch(const Matvec& arguments, const MatmulForward& p, cudaStream_t stream) {
  if (p.x.dtype() == DType::f32) {
    dispatch(p.weight.dtype(),
             [&](auto w) { launch<float, decltype(w)>(arguments, p.layout, stream); });
  } else {
    dispatch(p.x.dtype(),
             [&](auto x) { launch<decltype(x), decltype(x)>(arguments, p.layout, stream); });
  }
}

}  // namespace

void launch_matvec(const MatmulForward& p, cudaStream_t stream) {
  launch(arguments_of(p), p, stream);
}

void launch_layernorm_matvec(const LayernormMatmul& p, cudaStream_t stream) {
  Matvec arguments = arguments_of(p.matmul);
  arguments.x = p.layernorm.x.bytes();
  arguments.before = {.sum = p.layernorm.sum.bytes(),
                      .branch = p.layernorm.branch.bytes(),
                      .weight = p.layernorm.weight.data<float>(),
                      .bias = p.layernorm.bias.data<float>(),
                      .eps = p.layernorm.eps};
  launch(arguments, p.matmul, stream);
}

}  // namespace quire::cuda

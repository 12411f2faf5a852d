// Products of a few rows of floats with a weight of any type: decoding.
// Rows of 16 bits go to matvec_mma.cu.
//
// Every weight is read once, for all rows together, and the time is that of reading it: K·N
// elements, 2·M·K·N flops. At batch 1 GPT-2's 124M parameters in 16 bits are 247 MB a token: 74 µs
// at 3.35 TB/s.
//
// A warp holds a tile of the weight in registers, all of whose loads are under way before the first
// is looked at: 8 of 16 bytes a lane. The tile is 256 elements of K by 8 outputs in 16 bits,
// or by 4 where 8 would leave processors without a block. The warps of a block share K among them,
// so a product of 768 by 768 is 192 blocks. Each lane reads its own 8 elements of x:
// nobody else in the block wants them.
//
// Nothing is summed across blocks, as an output's weights are a few KB. The order of a sum depends
// on K alone: 8 elements in a lane, every 256·warps of them one after the other, then the lanes by
// halves, then the warps.
#include "kernels/cuda/matvec.h"

#include <limits>

#include "kernels/cuda/matvec.cuh"

namespace quire::cuda {
namespace {

constexpr int kRowsTogether = 4;  // of x, in a block: eight would spill registers

/// Elements [k, k + 8) of kRows outputs from n on, of a weight [N, K]
/// (kOutIn) or [K, N]. What lies beyond K or N is some other element.
template <int kRows, bool kOutIn, class W>
struct Tile {
  static_assert(kOutIn || kRows == kStep<W>);
  static constexpr int kPacks = kOutIn ? kRows : kPart;
  Packs<W, kOutIn ? kPart : kRows> packs[kPacks];

  __device__ __forceinline__ static const W* at(const Matvec& p, int i, int k, int n) {
    const W* const weight = static_cast<const W*>(p.weight);
    const int first = min(k, p.K - kPart);
    return kOutIn ? weight + std::int64_t{min(n + i, p.N - 1)} * p.K + first
                  : weight + std::int64_t{first + i} * p.N + n;
  }
  __device__ __forceinline__ static void prefetch(const Matvec& p, int k, int n) {
#pragma unroll
    for (int i = 0; i < kPacks; ++i) cuda::prefetch(at(p, i, k, n));
  }
  __device__ __forceinline__ void fetch(const Matvec& p, int k, int n) {
    // Lanes whose 16 bytes are neighbours read whole sectors; of a weight [K, N] the next block
    // reads the rest, and of floats the next load.
    constexpr Load kLoad = kOutIn && sizeof(W) == 2 ? Load::streamed : Load::plain;
#pragma unroll
    for (int i = 0; i < kPacks; ++i) {
      packs[i] = fetch_at<(kOutIn ? kPart : kRows), kLoad>(at(p, i, k, n));
    }
  }
  __device__ __forceinline__ float element(int row, int j) const {
    return widen(kOutIn ? packs[row].element[j] : packs[j].element[row]);
  }
};

/// The rows of x that a block takes: blocks side by side take the same weights.
__host__ __device__ __forceinline__ unsigned groups_of(const Matvec& p) {
  return static_cast<unsigned>((p.rows + kRowsTogether - 1) / kRowsTogether);
}
template <int M>
__device__ __forceinline__ int first_row(const Matvec& p) {
  return M == 1 ? 0 : static_cast<int>(blockIdx.x % groups_of(p)) * M;
}

/// Elements [k, k + 8) of M rows of x. Beyond the last row, or K, are those that stand last.
template <int M>
struct Inputs {
  Packs<float, kPart> rows[M];

  __device__ __forceinline__ void fetch_rows(const void* x, const Matvec& p, int k) {
#pragma unroll
    for (int m = 0; m < M; ++m) {
      const int row = min(first_row<M>(p) + m, p.rows - 1);
      rows[m] = fetch<true, kPart>(static_cast<const float*>(x) + std::int64_t{row} * p.K, k, p.K);
    }
  }
  /// Of x + branch, as they are stored.
  __device__ __forceinline__ void fetch_sums(const Matvec& p, int k) {
    Inputs branch;
    fetch_rows(p.x, p, k);
    branch.fetch_rows(p.before.branch, p, k);
#pragma unroll
    for (int m = 0; m < M; ++m) {
#pragma unroll
      for (int j = 0; j < kPart; ++j) {
        rows[m].element[j] += branch.rows[m].element[j];
      }
    }
  }
};

/// Sums over a block's lanes, then its warps in order.
template <int M>
__device__ __forceinline__ void add_over_block(float (&values)[M],
                                               float (*of_warps)[kRowsTogether]) {
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
#pragma unroll
  for (int m = 0; m < M; ++m) {
    values[m] = warp_sum(values[m]);
    if (threadIdx.x % kWarp == 0) of_warps[warp][m] = values[m];
    values[m] = 0.0f;
  }
  __syncthreads();
  for (int w = 0; w < static_cast<int>(blockDim.x) / kWarp; ++w) {
#pragma unroll
    for (int m = 0; m < M; ++m) values[m] += of_warps[w][m];
  }
}

template <int M>
struct Statistics {
  float mean[M] = {}, rstd[M] = {};
};

/// Of the rows of x + branch. Every block does it for itself, which costs less than a launch; the
/// first ones write the sums.
template <int M>
__device__ __forceinline__ void add_and_measure(Statistics<M>& statistics, const Matvec& p) {
  QUIRE_SHARED(float, totals, kMostWarps* kRowsTogether);
  QUIRE_SHARED(float, squares, kMostWarps* kRowsTogether);
  using OfWarps = float(*)[kRowsTogether];
  const int first = static_cast<int>(threadIdx.x) * kPart;
  const int stride = static_cast<int>(blockDim.x) * kPart;
  Inputs<M> sums;
  for (int k = first; k < p.K; k += stride) {
    sums.fetch_sums(p, k);
#pragma unroll
    for (int m = 0; m < M; ++m) {
      float values[kPart];
      widen(sums.rows[m], values);
      const int row = first_row<M>(p) + m;
      if (blockIdx.x < groups_of(p) && row < p.rows) {
        store_row<true>(static_cast<float*>(p.before.sum) + std::int64_t{row} * p.K, k, p.K,
                        values);
      }
#pragma unroll
      for (int j = 0; j < kPart; ++j) statistics.mean[m] += values[j];
    }
  }
  add_over_block(statistics.mean, reinterpret_cast<OfWarps>(totals));
#pragma unroll
  for (int m = 0; m < M; ++m) statistics.mean[m] /= static_cast<float>(p.K);
  for (int k = first; k < p.K; k += stride) {
    sums.fetch_sums(p, k);  // out of the L1 cache
#pragma unroll
    for (int m = 0; m < M; ++m) {
#pragma unroll
      for (int j = 0; j < kPart; ++j) {
        const float distance = sums.rows[m].element[j] - statistics.mean[m];
        statistics.rstd[m] = fmaf(distance, distance, statistics.rstd[m]);
      }
    }
  }
  add_over_block(statistics.rstd, reinterpret_cast<OfWarps>(squares));
#pragma unroll
  for (int m = 0; m < M; ++m) {
    statistics.rstd[m] = rsqrtf(statistics.rstd[m] / static_cast<float>(p.K) + p.before.eps);
  }
}

/// Elements [k, k + 8) of the rows that the product reads.
template <int M>
__device__ __forceinline__ void fetch_inputs(Inputs<M>& x, const Statistics<M>& statistics,
                                             const Matvec& p, int k) {
  if (p.before.weight == nullptr) return x.fetch_rows(p.x, p, k);
  float weight[kPart], bias[kPart];
  load_row<true>(p.before.weight, k, p.K, weight);
  load_row<true>(p.before.bias, k, p.K, bias);
  x.fetch_sums(p, k);
#pragma unroll
  for (int m = 0; m < M; ++m) {
#pragma unroll
    for (int j = 0; j < kPart; ++j) {
      const float value = x.rows[m].element[j] - statistics.mean[m];
      x.rows[m].element[j] = fmaf(value * statistics.rstd[m], weight[j], bias[j]);
    }
  }
}

/// Sums of kCount values over a warp's lanes, by halves: each exchange halves the values that a
/// lane goes on with, and their order is that of warp_sum(). The lane is left with `kCount / 32`
/// sums, at least one, from the index on that is returned.
template <int kCount, int kDistance = kWarp / 2>
__device__ __forceinline__ int add_over_lanes(float* values, int lane) {
  if constexpr (kCount == 1) {
    values[0] = reduce_neighbours<2 * kDistance>(values[0], Add{});
    return 0;
  } else {
    constexpr int kHalf = kCount / 2;
    const bool upper = (lane & kDistance) != 0;
#pragma unroll
    for (int i = 0; i < kHalf; ++i) {
      const float given = upper ? values[i] : values[i + kHalf];
      const float kept = upper ? values[i + kHalf] : values[i];
      values[i] = kept + __shfl_xor_sync(kWholeWarp, given, kDistance);
    }
    const int index = upper ? kHalf : 0;
    if constexpr (kDistance == 1) {
      return index;
    } else {
      return index + add_over_lanes<kHalf, kDistance / 2>(values, lane);
    }
  }
}

/// A block takes all of K for kRows outputs.
template <int M, int kRows, bool kOutIn, class W>
__global__ void __launch_bounds__(kMostWarps* kWarp) matvec_tiles(Matvec p) {
  constexpr int kSums = M * kRows;
  QUIRE_SHARED(float, of_warps, kMostWarps* kSums);
  using OfWeight = Tile<kRows, kOutIn, W>;
  const int thread = static_cast<int>(threadIdx.x), lane = thread % kWarp, warp = thread / kWarp;
  const int threads = static_cast<int>(blockDim.x), stride = threads * kPart;
  const int n = static_cast<int>(blockIdx.x / (M == 1 ? 1u : groups_of(p))) * kRows;
  const auto begin = [&](int first) {  // what is read below `first` needs no prefetch
    if (p.overlapped) {
      for (int k = first + thread * kPart; k < p.K; k += stride) OfWeight::prefetch(p, k, n);
    }
    let_next_begin();
    wait_for_previous();
  };
  if (!p.recorded) begin(0);
  OfWeight weight;
  weight.fetch(p, thread * kPart, n);
  if (p.recorded) begin(stride);
  const int own = n + thread % kRows;  // of the outputs: what this thread stores, if it does
  const float bias = p.bias != nullptr ? p.bias[min(own, p.N - 1)] : 0.0f;
  Statistics<M> statistics;
  if (p.before.weight != nullptr) add_and_measure<M>(statistics, p);
  float sums[kSums] = {};
  for (int first = 0; first < p.K; first += stride) {
    const int k = first + thread * kPart;
    if (first > 0) weight.fetch(p, k, n);
    Inputs<M> x;
    fetch_inputs(x, statistics, p, k);
    if (k >= p.K) continue;
#pragma unroll
    for (int j = 0; j < kPart; ++j) {
#pragma unroll
      for (int i = 0; i < kSums; ++i) {
        sums[i] = fmaf(x.rows[i / kRows].element[j], weight.element(i % kRows, j), sums[i]);
      }
    }
  }

  constexpr int kLeft = kSums > kWarp ? kSums / kWarp : 1;
  const int index = add_over_lanes<kSums>(sums, lane);
  if (lane % (kSums < kWarp ? kWarp / kSums : 1) == 0) {
#pragma unroll
    for (int i = 0; i < kLeft; ++i) of_warps[warp * kSums + index + i] = sums[i];
  }
  __syncthreads();
  for (int i = thread; i < kSums; i += threads) {
    const int m = first_row<M>(p) + i / kRows;
    float sum = 0.0f;
    for (int w = 0; w < threads / kWarp; ++w) sum += of_warps[w * kSums + i];
    if (m < p.rows && own < p.N) store<float>(p, m, own, p.bias != nullptr ? sum + bias : sum);
  }
}

template <int kRows, bool kOutIn, class W>
void launch_tiles(const Matvec& p, const ChainLaunch& how) {
  choose(p.rows == 1, [&](auto one) {
    constexpr int M = one() ? 1 : kRowsTogether;
    QUIRE_LAUNCH_CHAINED((matvec_tiles<M, kRows, kOutIn, W>),
                         static_cast<unsigned>((p.N + kRows - 1) / kRows) * groups_of(p),
                         static_cast<unsigned>(warps_for(p.K) * kWarp), 0, how, p);
  });
}

template <class W>
void launch(const Matvec& p, WeightLayout layout, const ChainLaunch& how) {
  constexpr int kRows = kStep<W>;
  if (layout == WeightLayout::in_out) {
    launch_tiles<kRows, false, W>(p, how);
  } else if (p.N < kRows * how.processors) {  // half a tile each, so that no processor is left out
    launch_tiles<4, true, W>(p, how);
  } else {
    launch_tiles<kRows, true, W>(p, how);
  }
}

}  // namespace

bool takes_matvec(const MatmulForward& p) {
  const Shape& weight = p.weight.shape;
  const std::int64_t K = p.x.shape()[1];
  constexpr std::int64_t kMost = std::numeric_limits<int>::max() / 2;  // of all indices
  return p.x.shape()[0] <= kMatvecRows && weight[0] <= kMost && weight[1] <= kMost &&
         whole_rows(weight[1], kPart, p.weight.view()) && whole_rows(K, kPart, p.x) &&
         (!p.bias || p.bias.dtype() == DType::f32) &&
         (p.x.dtype() == DType::f32 || p.x.dtype() == p.weight.dtype());
}

bool takes_layernorm_matvec(const LayernormMatmul& p) {
  const ResidualLayernormForward& l = p.layernorm;
  const std::int64_t K = l.weight.count();
  return takes_matvec(p.matmul) && l.sum.bytes() != l.x.bytes() && !l.mean && !l.rstd &&
         whole_rows(K, kPart, l.sum, l.x, l.branch, l.weight, l.bias) &&
         (p.matmul.x.dtype() == DType::f32 || K <= kMostNormalised);
}

void launch_matvec(const MatmulForward& p, const ChainLaunch& how,
                   const ResidualLayernormForward* before) {
  Matvec arguments = {.out = p.out.bytes(),
                      .out_is_float = p.out.dtype() == DType::f32,
                      .overlapped = how.overlapped,
                      .recorded = how.recorded,
                      .pre_activation = p.pre_activation.bytes(),
                      .x = p.x.bytes(),
                      .weight = p.weight.data,
                      .bias = p.bias ? p.bias.data<float>() : nullptr,
                      .rows = static_cast<int>(p.x.shape()[0]),
                      .K = static_cast<int>(p.weight.in()),
                      .N = static_cast<int>(p.weight.out()),
                      .activation = p.activation,
                      .before = {}};
  if (before != nullptr) {
    arguments.x = before->x.bytes();
    arguments.before = {.sum = before->sum.bytes(),
                        .branch = before->branch.bytes(),
                        .weight = before->weight.data<float>(),
                        .bias = before->bias.data<float>(),
                        .eps = before->eps,
                        .share = 1.0f / static_cast<float>(arguments.K)};
  }
  if (p.x.dtype() != DType::f32)
    return launch_matvec_mma(arguments, p.x.dtype(), p.weight.layout, how);
  dispatch(p.weight.dtype(), [&]<class W>() { launch<W>(arguments, p.weight.layout, how); });
}

}  // namespace quire::cuda

// Products of up to eight rows with a weight of their own 16-bit type: decoding at 16 bits.
//
// What such a product costs beside the reading of its weight is the way of one warp from its first
// instruction to its last, as every kernel of a token waits for the one before it:
// 870 instructions a warp where floats are multiplied one by one took 2.7 µs (H100).
// So matrix instructions take the products, eight rows at the price of one:
// the rows of x are the rows of `a`, eight outputs the columns of `b`. Which elements of K a lane
// holds is free as long as `a` and `b` agree: 8 neighbours each, 16 bytes of a weight [N, K].
//
// A block has eight outputs and all of K, a warp 256 elements of it at a time: 8 loads of 16 bytes
// a lane, all under way at once, in a graph before the kernels in front are done.
// The sums of a block's warps are added in their order, so that an element's bits are those
// of K alone, in either layout and among any rows.
#include "kernels/cuda/matvec.cuh"
#include "kernels/cuda/matvec.h"
#include "kernels/cuda/mma.cuh"

namespace quire::cuda {
namespace {

constexpr int kOutputs = 8;  // of a block: columns of a matrix instruction
constexpr int kSteps = 8;    // of a warp in its 256 elements of K: two instructions each
constexpr int kReachOfStep = 4 * kPart;  // the lanes of a column side by side
static_assert(kSteps * kReachOfStep == kReach);

/// Four registers: the 8 elements of K that a lane has in a step.
struct Words {
  std::uint32_t word[4];
};

/// A lane's part of the row's elements [first, first + 256); beyond K are zeros.
template <Load kLoad, class T>
__device__ __forceinline__ void fetch_steps(Words (&steps)[kSteps], const T* row, int first, int K,
                                            int lane) {
  const int own = first + lane % 4 * kPart;
  if (first + kReach <= K) {
#pragma unroll
    for (int s = 0; s < kSteps; ++s) {
      steps[s] = std::bit_cast<Words>(load_pack<kLoad, kPart>(row + own + s * kReachOfStep));
    }
  } else {
#pragma unroll
    for (int s = 0; s < kSteps; ++s) {
      const int k = own + s * kReachOfStep;
      steps[s] = k < K ? std::bit_cast<Words>(load_pack<kLoad, kPart>(row + k)) : Words{};
    }
  }
}

/// The weight of a warp: lane l has elements [k, k + 8) of output l/4, k = 8·(l%4) in each step.
template <bool kOutIn, class T>
struct Weights {
  Words steps[kSteps];

  /// What lies beyond K is 0; beyond N, some other output.
  __device__ __forceinline__ void fetch(const Matvec& p, int first_k, int first_n, int lane) {
    const T* const weight = static_cast<const T*>(p.weight);
    if constexpr (kOutIn) {
      const T* const row = weight + std::int64_t{min(first_n + lane / 4, p.N - 1)} * p.K;
      fetch_steps<Load::streamed>(steps, row, first_k, p.K, lane);
    } else {
      // Two outputs each of the elements that four lanes are to have in a register,
      // as a matrix of 8 by 8, which transposed() turns.
      const T* const columns = weight + first_n + lane % 4 * 2;
#pragma unroll
      for (int s = 0; s < kSteps; ++s) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int k = first_k + s * kReachOfStep + lane / 8 * kPart + lane / 4 % 2 + 2 * i;
          steps[s].word[i] =
              k < p.K ? *reinterpret_cast<const std::uint32_t*>(columns + std::int64_t{k} * p.N)
                      : 0;
        }
      }
    }
  }
  /// The part of a column of `b` that is word i of step s.
  __device__ __forceinline__ std::uint32_t word(int s, int i, int lane) const {
    if constexpr (kOutIn) return steps[s].word[i];
    const int from = lane % 4 * 8 + lane / 8;  // the lane that has (row 2·(lane%4), column lane/4)
    const std::uint32_t low = __shfl_sync(kWholeWarp, steps[s].word[i], from);
    const std::uint32_t high = __shfl_sync(kWholeWarp, steps[s].word[i], from + 4);
    const int half = lane / 4 % 2 * 16;
    return (low >> half & 0xffffu) | high >> half << 16;
  }
  __device__ __forceinline__ static void prefetch(const Matvec& p, int first_k, int first_n,
                                                  int lane) {
    const T* const weight = static_cast<const T*>(p.weight);
#pragma unroll
    for (int s = 0; s < kSteps; ++s) {
      const int k = min(first_k + s * kReachOfStep + lane % 4 * kPart, p.K - kPart);
      const int n = min(first_n + lane / 4, p.N - 1);
      cuda::prefetch(kOutIn ? weight + std::int64_t{n} * p.K + k
                            : weight + std::int64_t{k + lane / 4} * p.N + first_n);
    }
  }
};

/// Sums of each value over a block's lanes, then its warps in order: every thread gets them.
template <int M>
__device__ __forceinline__ void add_over_block(float (&values)[M], float* of_warps) {
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
#pragma unroll
  for (int m = 0; m < M; ++m) {
    values[m] = warp_sum(values[m]);
    if (threadIdx.x % kWarp == 0) of_warps[warp * M + m] = values[m];
    values[m] = 0.0f;
  }
  __syncthreads();
#pragma unroll
  for (int w = 0; w < kMostWarps; ++w) {
#pragma unroll
    for (int m = 0; m < M; ++m) {
      if (w < static_cast<int>(blockDim.x) / kWarp) values[m] += of_warps[w * M + m];
    }
  }
}

/// Elements of a normalised row in shared memory: eight rows' 64 bytes that are read at once lie in
/// different banks.
__host__ __device__ constexpr int normalised_stride(int K) {
  return (K + 63) / 64 * 64 + 32;
}

/// The rows of x + branch, written to `sum` by the first block, and normalised into shared memory.
/// Every block does it for itself, which costs less than a launch.
/// A thread has 8 elements of each row.
template <int M, class T>
struct Normalised {
  float weight[kPart], bias[kPart];

  __device__ __forceinline__ void fetch(const Matvec& p, int k) {
    load_row<true>(p.before.weight, k, p.K, weight);
    load_row<true>(p.before.bias, k, p.K, bias);
  }
  __device__ __forceinline__ void write(const Matvec& p, int k, T* rows) const {
    QUIRE_SHARED(float, totals, kMostWarps* M);
    QUIRE_SHARED(float, squares, kMostWarps* M);
    const bool given = k < p.K;
    float values[M][kPart];
    {
      Packs<T, kPart> x[M], branch[M];
#pragma unroll
      for (int m = 0; m < M; ++m) {
        const std::int64_t row = std::int64_t{min(m, p.rows - 1)} * p.K;
        x[m] = cuda::fetch<true, kPart>(static_cast<const T*>(p.x) + row, k, p.K);
        branch[m] = cuda::fetch<true, kPart>(static_cast<const T*>(p.before.branch) + row, k, p.K);
      }
#pragma unroll
      for (int m = 0; m < M; ++m) {
#pragma unroll
        for (int j = 0; j < kPart; ++j) {  // as they are stored
          x[m].element[j] = narrow<T>(widen(x[m].element[j]) + widen(branch[m].element[j]));
        }
        widen(x[m], values[m]);
        if (blockIdx.x == 0 && given && m < p.rows) {
          store_pack<Store::plain>(static_cast<T*>(p.before.sum) + std::int64_t{m} * p.K + k, x[m]);
        }
      }
    }
    float mean[M], rstd[M];
#pragma unroll
    for (int m = 0; m < M; ++m) {
      mean[m] = 0.0f;
#pragma unroll
      for (int j = 0; j < kPart; ++j) mean[m] += values[m][j];
      if (!given) mean[m] = 0.0f;
    }
    add_over_block(mean, totals);
#pragma unroll
    for (int m = 0; m < M; ++m) {
      mean[m] *= p.before.share;
      rstd[m] = 0.0f;
#pragma unroll
      for (int j = 0; j < kPart; ++j) {
        values[m][j] -= mean[m];
        rstd[m] = fmaf(values[m][j], values[m][j], rstd[m]);
      }
      if (!given) rstd[m] = 0.0f;
    }
    add_over_block(rstd, squares);
#pragma unroll
    for (int m = 0; m < M; ++m) {
      const float factor = rsqrtf(fmaf(rstd[m], p.before.share, p.before.eps));
      Packs<T, kPart> out;
#pragma unroll
      for (int j = 0; j < kPart; ++j) {
        out.element[j] = narrow<T>(fmaf(values[m][j] * factor, weight[j], bias[j]));
      }
      if (given) store_pack<Store::plain>(rows + m * normalised_stride(p.K) + k, out);
    }
    __syncthreads();
  }
};
/// Without a normalisation.
template <class T>
struct Normalised<0, T> {
  __device__ __forceinline__ void fetch(const Matvec&, int) {}
  __device__ __forceinline__ void write(const Matvec&, int, T*) const {}
};

/// A block takes all of K for 8 outputs. M: rows that it normalises, 0 where it does not.
template <int M, bool kOutIn, class T>
__global__ void __launch_bounds__(kMostWarps* kWarp) matvec_mma(Matvec p) {
  QUIRE_SHARED(float, of_warps, kMostWarps* kMatvecRows* kOutputs);
  T* const normalised = reinterpret_cast<T*>(QUIRE_DYNAMIC_SHARED);
  const int thread = static_cast<int>(threadIdx.x), lane = thread % kWarp, warp = thread / kWarp;
  const int threads = static_cast<int>(blockDim.x), stride = threads * kPart;
  const int n = static_cast<int>(blockIdx.x) * kOutputs;
  const auto begin = [&](int first) {  // what is read below `first` needs no prefetch
    if (p.overlapped) {
      for (int k = first + warp * kReach; k < p.K; k += stride) {
        Weights<kOutIn, T>::prefetch(p, k, n, lane);
      }
    }
    let_next_begin();
    wait_for_previous();
  };
  if (!p.recorded) begin(0);
  Weights<kOutIn, T> weights;
  weights.fetch(p, warp * kReach, n, lane);
  const int own = n + thread % kOutputs;  // of the outputs: what this thread stores, if it does
  const float bias = p.bias != nullptr ? p.bias[min(own, p.N - 1)] : 0.0f;
  Normalised<M, T> before;
  before.fetch(p, thread * kPart);
  if (p.recorded) begin(stride);

  before.write(p, thread * kPart, normalised);
  const int row = min(lane / 4, p.rows - 1);
  const T* const x = M > 0 ? normalised + row * normalised_stride(p.K)
                           : static_cast<const T*>(p.x) + std::int64_t{row} * p.K;
  float sums[4][4] = {};
  for (int first = warp * kReach; first < p.K; first += stride) {
    if (first >= stride) weights.fetch(p, first, n, lane);
    Words a[kSteps];
    fetch_steps<Load::plain>(a, x, first, p.K, lane);
#pragma unroll
    for (int s = 0; s < kSteps; ++s) {
#pragma unroll
      for (int i = 0; i < 4; i += 2) {
        const std::uint32_t rows[] = {a[s].word[i], 0, a[s].word[i + 1], 0};
        multiply_add<T>(sums[s % 2 * 2 + i / 2], rows, weights.word(s, i, lane),
                        weights.word(s, i + 1, lane));
      }
    }
  }

  if (lane / 4 < p.rows) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      of_warps[(warp * kMatvecRows + lane / 4) * kOutputs + lane % 4 * 2 + i] =
          (sums[0][i] + sums[1][i]) + (sums[2][i] + sums[3][i]);
    }
  }
  __syncthreads();
#pragma unroll 1
  for (int i = thread; i < p.rows * kOutputs; i += threads) {
    float sum = 0.0f;
#pragma unroll
    for (int w = 0; w < kMostWarps; ++w) {
      if (w < threads / kWarp) sum += of_warps[w * kMatvecRows * kOutputs + i];
    }
    if (own < p.N) store<T>(p, i / kOutputs, own, p.bias != nullptr ? sum + bias : sum);
  }
}

template <int M, class T>
void launch(const Matvec& p, WeightLayout layout, const ChainLaunch& how) {
  choose(layout == WeightLayout::out_in, [&](auto out_in) {
    QUIRE_LAUNCH_CHAINED((matvec_mma<M, out_in(), T>),
                         static_cast<unsigned>((p.N + kOutputs - 1) / kOutputs),
                         static_cast<unsigned>(warps_for(p.K) * kWarp),
                         M * static_cast<std::size_t>(normalised_stride(p.K)) * sizeof(T), how, p);
  });
}

template <class T>
void launch(const Matvec& p, WeightLayout layout, const ChainLaunch& how) {
  if (p.before.weight == nullptr) {
    launch<0, T>(p, layout, how);
  } else if (p.rows == 1) {
    launch<1, T>(p, layout, how);
  } else {
    launch<kMatvecRows, T>(p, layout, how);
  }
}

}  // namespace

void launch_matvec_mma(const Matvec& p, DType dtype, WeightLayout layout, const ChainLaunch& how) {
  if (dtype == DType::bf16) {
    launch<BFloat16>(p, layout, how);
  } else {
    launch<Half>(p, layout, how);
  }
}

}  // namespace quire::cuda

// From logits to a token: the penalty, the draw and the argmax; the filters are in sampling_filters.cu.
// A block for each row.
//
// A row of GPT-2 is 201 KB, 0.06 µs at 3.35 TB/s, but one SM reads it in 2 µs at best: few rows are
// bound by the time of their one block. The draw holds its row in shared memory if it fits, reads
// it twice from there, and takes an exponential in double of each token that has not been filtered
// out: 12 µs for 50,257 of them.
#include <algorithm>
#include <bit>

#include "kernels/cuda/device.h"
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/sampling.cuh"
#include "kernels/cuda/vec.cuh"

namespace quire::cuda {
namespace {

// ---------------------------------------------------------------- repetition_penalty

constexpr int kPenaltyThreads = 256;
/// Tokens whose having occurred fits into shared memory at a time: 32 KB of bits.
constexpr int kWindow = 1 << 18;

struct PenaltyRows {
  float* logits;
  const std::int32_t* history;
  const std::int32_t* first;  // null: 0
  int V, length;
  float penalty;
};

/// Of the threads that find a token in the history, the one that sets its bit applies the penalty.
__global__ void __launch_bounds__(kPenaltyThreads) penalise_rows(PenaltyRows p) {
  const std::int64_t b = blockIdx.x;
  const int thread = static_cast<int>(threadIdx.x);
  float* const row = p.logits + b * p.V;
  const std::int32_t* const history = p.history + b * p.length;
  const int first = p.first == nullptr ? 0 : std::max(p.first[b], 0);
  QUIRE_SHARED(unsigned, occurred, kWindow / 32);
  for (int window = 0; window < p.V; window += kWindow) {
    const int tokens = p.V - window < kWindow ? p.V - window : kWindow;
    for (int i = thread; i * 32 < tokens; i += kPenaltyThreads) occurred[i] = 0;
    __syncthreads();
    for (int i = first + thread; i < p.length; i += kPenaltyThreads) {
      const int token = history[i] - window;
      if (history[i] < 0 || token < 0 || token >= tokens) continue;
      const unsigned bit = 1u << token % 32;
      if ((atomicOr(&occurred[token / 32], bit) & bit) != 0) continue;
      float& score = row[window + token];
      score = score < 0.0f ? score * p.penalty : score / p.penalty;
    }
    __syncthreads();
  }
}

// ---------------------------------------------------------------- draw_tokens

struct DrawRows {
  std::int32_t* tokens;
  const float* logits;
  const float* uniforms;
  int V;
  bool held;  // the row fits into shared memory
};

/// Each thread sums a piece of neighbours, so that the sums before the pieces and the sum within
/// one follow the order of the tokens.
__global__ void __launch_bounds__(kMostThreads) draw_rows(DrawRows p) {
  const std::int64_t b = blockIdx.x;
  const int thread = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
  const float* row = p.logits + b * p.V;
  float* const room = reinterpret_cast<float*>(QUIRE_DYNAMIC_SHARED);
  float largest = -INFINITY;
  for (int v = thread; v < p.V; v += threads) {
    const float x = row[v];
    if (p.held) room[v] = x;
    if (x > largest) largest = x;  // NaN is no candidate
  }
  largest = reduce_block(largest, -INFINITY, Largest{});  // and all of the row is there
  if (p.held) row = room;

  const double best = largest;
  const auto weight = [&](int v) { return key_of(row[v]) == 0 ? 0.0 : exp(double{row[v]} - best); };
  // An odd length keeps the threads of a warp on different banks.
  const int length = (p.V + threads - 1) / threads | 1;
  const int begin = std::min(thread * length, p.V), end = std::min(begin + length, p.V);
  double own = 0.0;
  for (int v = begin; v < end; ++v) own += weight(v);
  const double before = block_sum_before(own);
  const double total = reduce_block(before + own, 0.0, Higher{});

  // The last piece that has anything ends at the total, so one of them passes any u below 1.
  const double u = p.uniforms[b];
  const bool passes = (before + own) / total > u;
  const int piece = reduce_block(passes ? thread : threads, threads, Lower{});
  if (piece == threads && thread == 0) p.tokens[b] = 0;  // nothing to draw from
  if (thread != piece) return;
  double sum = 0.0;
  std::int32_t token = 0;
  for (int v = begin; v < end; ++v) {
    const double w = weight(v);
    if (w > 0.0) token = v;
    sum += w;
    if ((before + sum) / total > u) break;
  }
  p.tokens[b] = token;
}

// ---------------------------------------------------------------- argmax_tokens

__global__ void __launch_bounds__(kMostThreads)
    argmax_rows(std::int32_t* tokens, const float* logits, int V) {
  const std::int64_t b = blockIdx.x;
  const int threads = static_cast<int>(blockDim.x);
  std::uint64_t best = 0;  // the key above, the lowest index as the largest number below
#pragma unroll 8
  for (int v = static_cast<int>(threadIdx.x); v < V; v += threads) {
    const std::uint64_t candidate =
        std::uint64_t{key_of(logits[b * V + v])} << 32 | ~static_cast<unsigned>(v);
    best = Higher{}(best, candidate);
  }
  best = reduce_block(best, std::uint64_t{0}, Higher{});
  if (threadIdx.x != 0) return;
  tokens[b] = best >> 32 == 0 ? 0 : static_cast<std::int32_t>(~static_cast<unsigned>(best));
}

}  // namespace

void CudaDevice::do_repetition_penalty(const RepetitionPenalty& p) {
  QUIRE_LAUNCH(penalise_rows, static_cast<unsigned>(p.logits.shape()[0]), kPenaltyThreads, 0,
               stream_,
               PenaltyRows{.logits = p.logits.data<float>(),
                           .history = p.history.data<std::int32_t>(),
                           .first = p.first ? p.first.data<std::int32_t>() : nullptr,
                           .V = static_cast<int>(p.logits.shape()[1]),
                           .length = static_cast<int>(p.history.shape()[1]),
                           .penalty = p.penalty});
}

void CudaDevice::do_draw_tokens(const DrawTokens& p) {
  const std::int64_t V = p.logits.shape()[1];
  const std::size_t bytes = bytes_of_held_row(V, properties_);
  allow_shared(draw_rows, bytes, "draw_tokens");
  QUIRE_LAUNCH(draw_rows, static_cast<unsigned>(p.logits.shape()[0]), threads_for(V, kMostThreads),
               bytes, stream_,
               DrawRows{.tokens = p.tokens.data<std::int32_t>(),
                        .logits = p.logits.data<float>(),
                        .uniforms = p.uniforms.data<float>(),
                        .V = static_cast<int>(V),
                        .held = bytes > 0});
}

void CudaDevice::do_argmax_tokens(const ArgmaxTokens& p) {
  const std::int64_t V = p.logits.shape()[1];
  QUIRE_LAUNCH(argmax_rows, static_cast<unsigned>(p.logits.shape()[0]),
               threads_for(V, kMostThreads), 0, stream_, p.tokens.data<std::int32_t>(),
               p.logits.data<float>(), static_cast<int>(V));
}

}  // namespace quire::cuda

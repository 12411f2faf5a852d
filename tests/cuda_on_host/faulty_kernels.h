// A kernel that is right, and copies of it with one fault each, which the host layer must find.
#pragma once

#include <cmath>
#include <limits>
#include <vector>

#include "kernels/cuda/launch.cuh"

namespace quire::test {

enum class Planted {
  none,
  missing_barrier,          ///< shared memory is read before its neighbour has written it
  divergent_barrier,        ///< half of the block waits at another line
  barrier_in_half_a_warp,   ///< lanes wait at a barrier, the others in a shuffle
  unwritten_shared_memory,  ///< the last element was never written
  write_beyond_shared_memory,
  read_beyond_global_memory,
  write_beyond_global_memory,
  shuffle_without_own_lane,
  async_copy_without_wait,
  async_copy_without_barrier,  ///< waits for its own copies, not for the others'
  race_between_blocks,         ///< two blocks write the same elements
  read_before_waiting,         ///< reads what the kernel before it may still have to write
  end_without_waiting,         ///< for that kernel
};

inline constexpr int kFaultyThreads = 64;

/// out[t] = in[t] + in[(t + 33) % 64] + (the sum of the warp's in), through shared memory.
template <Planted kFault>
__global__ void add_neighbours(float* out, const float* in) {
  QUIRE_SHARED(float, tile, kFaultyThreads);
  const unsigned t = threadIdx.x;
  constexpr bool kWaitsLater = kFault == Planted::read_before_waiting;
  if (!kWaitsLater && kFault != Planted::end_without_waiting) cuda_on_host::wait_for_previous();
  if constexpr (kFault == Planted::async_copy_without_wait ||
                kFault == Planted::async_copy_without_barrier) {
    cuda_on_host::start_async(tile + t, in + t, sizeof(float));
    cuda_on_host::commit_async();
    if (kFault == Planted::async_copy_without_barrier) cuda_on_host::finish_async(0);
    if (kFault == Planted::async_copy_without_wait) __syncthreads();
  } else {
    const bool reads = kFault != Planted::read_beyond_global_memory;
    const bool writes = kFault != Planted::unwritten_shared_memory || t + 1 < kFaultyThreads;
    const unsigned to = kFault == Planted::write_beyond_shared_memory ? t + 1 : t;
    if (writes) tile[to] = in[reads ? t : t + 1];
    if (kWaitsLater) cuda_on_host::wait_for_previous();
  }
  if constexpr (kFault == Planted::divergent_barrier) {
    if (t < kFaultyThreads / 2) {
      __syncthreads();
    } else {
      __syncthreads();
    }
  } else if constexpr (kFault == Planted::barrier_in_half_a_warp) {
    if (t % 32 < 16) __syncthreads();
  } else if constexpr (kFault != Planted::missing_barrier &&
                       kFault != Planted::async_copy_without_wait &&
                       kFault != Planted::async_copy_without_barrier) {
    __syncthreads();
  }
  const unsigned mask = kFault == Planted::shuffle_without_own_lane ? 0x7fffffffu : 0xffffffffu;
  float sum = in[t];
  for (int distance = 16; distance > 0; distance /= 2) {
    sum += __shfl_xor_sync(mask, sum, distance);
  }
  unsigned to = kFault == Planted::write_beyond_global_memory ? t + 1 : t;
  if (kFault == Planted::race_between_blocks) to = (t + blockIdx.x) % kFaultyThreads;
  out[to] = tile[t] + tile[(t + 33) % kFaultyThreads] + sum;
}

inline __global__ void put_values(float* to, const float* from) {
  to[threadIdx.x] = from[threadIdx.x];
}

/// The kernel's result, computed by plain loops.
inline std::vector<float> neighbours_added(const std::vector<float>& in) {
  std::vector<float> out(in.size());
  for (std::size_t t = 0; t < in.size(); ++t) {
    float sum = 0.0f;
    for (std::size_t lane = 0; lane < 32; ++lane) sum += in[t / 32 * 32 + lane];
    out[t] = in[t] + in[(t + 33) % in.size()] + sum;
  }
  return out;
}

/// Runs it once on whole numbers, whose sums are exact.
template <Planted kFault>
std::vector<float> run_add_neighbours(std::uint64_t seed = 1) {
  cudaStream_t stream = nullptr;
  cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
  void* given = nullptr;
  void* in = nullptr;
  void* out = nullptr;
  const std::size_t bytes = kFaultyThreads * sizeof(float);
  cudaMalloc(&given, bytes);
  cudaMalloc(&in, bytes);
  cudaMalloc(&out, bytes);
  std::vector<float> values(kFaultyThreads), result(kFaultyThreads);
  for (int t = 0; t < kFaultyThreads; ++t) values[t] = static_cast<float>(t * t % 17);
  cuda_on_host::set_schedule_seed(seed);
  struct Cleanup {
    cudaStream_t stream;
    void *given, *in, *out;
    ~Cleanup() {
      cudaFree(given);
      cudaFree(in);
      cudaFree(out);
      cudaStreamDestroy(stream);
    }
  } cleanup{stream, given, in, out};
  cudaMemcpyAsync(given, values.data(), bytes, cudaMemcpyHostToDevice, stream);
  QUIRE_LAUNCH(put_values, 1, kFaultyThreads, 0, stream, static_cast<float*>(in),
               static_cast<const float*>(given));
  const cuda::ChainLaunch overlapped{.stream = stream, .overlapped = true, .processors = 1};
  QUIRE_LAUNCH_CHAINED(add_neighbours<kFault>, kFault == Planted::race_between_blocks ? 2 : 1,
                       kFaultyThreads, 0, overlapped, static_cast<float*>(out),
                       static_cast<const float*>(in));
  cudaMemcpyAsync(result.data(), out, bytes, cudaMemcpyDeviceToHost, stream);
  cudaStreamSynchronize(stream);
  return result;
}

inline std::vector<float> expected_neighbours() {
  std::vector<float> values(kFaultyThreads);
  for (int t = 0; t < kFaultyThreads; ++t) values[t] = static_cast<float>(t * t % 17);
  return neighbours_added(values);
}

}  // namespace quire::test

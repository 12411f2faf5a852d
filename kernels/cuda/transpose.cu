// A matrix transposed, in squares that pass through shared memory, so that both sides are read and
// written by whole sectors: 2·K·N elements move, 340 MB for the blocks of GPT-2 124M in 16 bits.
#include "kernels/cuda/device.h"
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/vec.cuh"

namespace quire::cuda {
namespace {

constexpr int kSide = kWarp;
constexpr int kRowsAtOnce = 8;

template <class T>
__global__ void __launch_bounds__(kSide* kRowsAtOnce)
    transpose_squares(T* out, const T* in, std::int64_t K, std::int64_t N) {
  QUIRE_SHARED(T, square, kSide * (kSide + 1));  // columns lie in different banks
  const int x = static_cast<int>(threadIdx.x), y = static_cast<int>(threadIdx.y);
  const std::int64_t k = std::int64_t{blockIdx.y} * kSide, n = std::int64_t{blockIdx.x} * kSide;
#pragma unroll
  for (int row = y; row < kSide; row += kRowsAtOnce) {
    if (k + row < K && n + x < N) square[row * (kSide + 1) + x] = in[(k + row) * N + n + x];
  }
  __syncthreads();
#pragma unroll
  for (int row = y; row < kSide; row += kRowsAtOnce) {
    if (n + row < N && k + x < K) out[(n + row) * K + k + x] = square[x * (kSide + 1) + row];
  }
}

}  // namespace

void CudaDevice::do_transpose(const Transpose& p) {
  const std::int64_t K = p.in.shape()[0], N = p.in.shape()[1];
  dispatch(p.in.dtype(), [&]<class T>() {
    QUIRE_LAUNCH(transpose_squares<T>, dim3(blocks_of(N, kSide), blocks_of(K, kSide)),
                 dim3(kSide, kRowsAtOnce), 0, stream_, p.out.data<T>(), p.in.data<T>(), K, N);
  });
}

}  // namespace quire::cuda

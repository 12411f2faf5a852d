// A matrix transposed, in squares whose lines stay in the nearest cache.
#include <algorithm>

#include "kernels/cpu/device.h"

namespace quire::cpu {
namespace {

constexpr std::int64_t kSide = 32;  // elements: 32 lines of 128 bytes of each matrix

/// Columns [first, end) of in [K, N].
template <class T>
void transpose_columns(T* out, const T* in, std::int64_t K, std::int64_t N, std::int64_t first,
                       std::int64_t end) {
  for (std::int64_t begin = 0; begin < K; begin += kSide) {
    for (std::int64_t n = first; n < end; ++n) {
      for (std::int64_t k = begin; k < std::min(begin + kSide, K); ++k) {
        out[n * K + k] = in[k * N + n];
      }
    }
  }
}

}  // namespace

void CpuDevice::do_transpose(const Transpose& p) {
  const std::int64_t K = p.in.shape()[0], N = p.in.shape()[1];
  pool_.run_pieces(N, kSide, [&](std::int64_t first, std::int64_t count) {
    dispatch(p.in.dtype(), [&]<class T>() {
      transpose_columns(p.out.data<T>(), p.in.data<T>(), K, N, first, first + count);
    });
  });
}

}  // namespace quire::cpu

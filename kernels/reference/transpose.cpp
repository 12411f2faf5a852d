// A matrix transposed: element by element.
#include <cstring>

#include "kernels/reference/reference_device.h"

namespace quire::reference {

void ReferenceDevice::do_transpose(const Transpose& p) {
  const std::int64_t K = p.in.shape()[0], N = p.in.shape()[1];
  const std::size_t size = size_of(p.in.dtype());
  auto* const out = static_cast<std::byte*>(p.out.bytes());
  const auto* const in = static_cast<const std::byte*>(p.in.bytes());
  for (std::int64_t k = 0; k < K; ++k) {
    for (std::int64_t n = 0; n < N; ++n) {
      const std::int64_t to = n * K + k, from = k * N + n;
      std::memcpy(out + static_cast<std::size_t>(to) * size,
                  in + static_cast<std::size_t>(from) * size, size);
    }
  }
}

}  // namespace quire::reference

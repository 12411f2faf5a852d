#include "engine/training/peak.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <vector>

#include "engine/model/elements.h"

namespace quire {

ProductType product_type(const Device& device, DType dtype) {
  const DType operands = device.activation_type(dtype);
  const bool rounds = dtype == DType::bf16 && operands == DType::f32;
  return {.operands = operands,
          .multiply =
              rounds && device.why_not_in_bf16().empty() ? Multiply::in_bf16 : Multiply::as_stored};
}

double measure_matmul(Device& device, DType dtype, double seconds) {
  using Clock = std::chrono::steady_clock;
  constexpr std::int64_t M = 256, K = 768, N = 3072;
  const ProductType type = product_type(device, dtype);
  std::vector<float> noise(K * N);
  for (std::size_t i = 0; i < noise.size(); ++i) noise[i] = random_uniform({1, 2}, i) - 0.5f;
  const std::size_t bytes = size_of(type.operands);
  std::vector<std::byte> stored(noise.size() * bytes);
  write_elements(noise, type.operands, stored.data());
  const Buffer x(device, M * K * bytes), weight(device, K * N * bytes), out(device, M * N * bytes);
  device.copy_to_device(x.data(), stored.data(), x.size());
  device.copy_to_device(weight.data(), stored.data(), weight.size());
  const MatmulForward product{.out = View(out.data(), type.operands, {M, N}),
                              .x = ConstView(x.data(), type.operands, {M, K}),
                              .weight = ConstView(weight.data(), type.operands, {K, N}),
                              .multiply = type.multiply};
  const auto run = [&] {
    const auto begin = Clock::now();
    device.matmul_forward(product);
    device.synchronize();
    return std::chrono::duration<double>(Clock::now() - begin).count();
  };
  run();
  double fastest = INFINITY;
  const auto start = Clock::now();
  for (int runs = 0; runs < 3 || Clock::now() - start < std::chrono::duration<double>(seconds);
       ++runs) {
    fastest = std::min(fastest, run());
  }
  return 2.0 * M * K * N / fastest;
}

}  // namespace quire

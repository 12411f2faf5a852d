#include "bench/ceilings.h"

#include <algorithm>
#include <optional>
#include <vector>

#include "bench/operands.h"
#include "bench/report.h"
#include "engine/model/elements.h"
#include "kernels/cpu/peak.h"

namespace quire {

namespace {

double measure_copy(Device& device, std::size_t bytes, double seconds) {
  NoiseBlocks noise(device);
  const std::int64_t count = static_cast<std::int64_t>(bytes / 2 / sizeof(float));
  Operands operands(device, noise);
  const View from = operands.random(DType::f32, {count});
  const View to = operands.zeros(DType::f32, {count});
  BenchEntry entry;
  time_batches(
      entry, device,
      {.run = [&](std::int64_t) { device.copy(to.bytes(), from.bytes(), from.size_bytes()); }},
      seconds);
  return 2.0 * static_cast<double>(from.size_bytes()) / entry.fastest_seconds;
}

}  // namespace

Ceilings measure_ceilings(Device& device, const CeilingOptions& options) {
  Ceilings ceilings;
  ceilings.copy_bytes_per_second = measure_copy(device, options.bytes, options.seconds);
  if (!device.shares_host_memory()) {
    ceilings.gemm_flops_per_second = measure_large_matmul(device, options.dtype, options.seconds);
    ceilings.read_bytes_per_second = ceilings.copy_bytes_per_second;
    ceilings.fma_flops_per_second = ceilings.gemm_flops_per_second;
    return ceilings;
  }
  {
    cpu::ThreadPool pool(options.threads);
    ceilings.read_bytes_per_second =
        cpu::measure_read_bandwidth(pool, options.bytes, options.seconds);
    ceilings.fma_flops_per_second =
        product_type(device, options.dtype).multiply == Multiply::in_bf16
            ? cpu::measure_bf16_peak(pool, options.seconds)
            : cpu::measure_fma_peak(pool, options.seconds);
  }
  ceilings.gemm_flops_per_second = measure_matmul(device, options.dtype, options.seconds);
  return ceilings;
}

ProductType product_type(const Device& device, DType dtype) {
  const DType operands = device.activation_type(dtype);
  const bool rounds = dtype == DType::bf16 && operands == DType::f32;
  return {.operands = operands,
          .multiply =
              rounds && device.why_not_in_bf16().empty() ? Multiply::in_bf16 : Multiply::as_stored};
}

double measure_large_matmul(Device& device, DType dtype, double seconds) {
  NoiseBlocks noise(device);
  const std::optional<DeviceMemory> memory = device.memory();
  double best = 0;
  for (std::int64_t width = 256; width <= 8192; width *= 2) {
    // Three operands, and what a library tries its algorithms on.
    const std::size_t bytes = 4 * static_cast<std::size_t>(width * width) * size_of(dtype);
    if (best > 0 && memory && bytes > memory->free) break;
    Operands operands(device, noise);
    const MatmulForward product{.out = operands.output(dtype, {width, width}),
                                .x = operands.random(dtype, {width, width}),
                                .weight = operands.random(dtype, {width, width})};
    BenchEntry entry;
    time_batches(entry, device, {.run = [&](std::int64_t) { device.matmul_forward(product); }},
                 seconds / 6);
    const double flops = 2.0 * static_cast<double>(width * width) * static_cast<double>(width);
    best = std::max(best, flops / entry.fastest_seconds);
    if (entry.fastest_seconds > 0.01) break;
  }
  return best;
}

double measure_matmul(Device& device, DType dtype, double seconds) {
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
  BenchEntry entry;
  time_runs(
      entry,
      [&] {
        device.matmul_forward(product);
        device.synchronize();
      },
      seconds, /*least_samples=*/3);
  return 2.0 * M * K * N / entry.fastest_seconds;
}

}  // namespace quire

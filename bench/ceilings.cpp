#include "bench/ceilings.h"

#include <algorithm>
#include <optional>

#include "bench/operands.h"
#include "bench/report.h"
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
        cpu::ReadBandwidth(pool, options.bytes).measure(options.seconds);
    const bool rounds = product_type(device, options.dtype).multiply == Multiply::in_bf16;
    const auto measure = !rounds                       ? cpu::measure_fma_peak
                         : device.why_no_amx().empty() ? cpu::measure_amx_peak
                                                       : cpu::measure_bf16_peak;
    ceilings.fma_flops_per_second = measure(pool, options.seconds);
  }
  ceilings.gemm_flops_per_second = measure_matmul(device, options.dtype, options.seconds);
  return ceilings;
}

double measure_large_matmul(Device& device, DType dtype, double seconds) {
  NoiseBlocks noise(device);
  const std::optional<DeviceMemory> memory = device.memory();
  double best = 0;
  for (std::int64_t width = 256; width <= 8192; width *= 2) {
    // Three operands, and what a library tries its algorithms on.
    const std::size_t bytes = 4 * (width * width) * size_of(dtype);
    if (best > 0 && memory && bytes > memory->free) break;
    Operands operands(device, noise);
    const MatmulForward product{
        .out = operands.output(dtype, {width, width}),
        .x = operands.random(dtype, {width, width}),
        .weight = {operands.random(dtype, {width, width}), WeightLayout::in_out}};
    BenchEntry entry;
    time_batches(entry, device, {.run = [&](std::int64_t) { device.matmul_forward(product); }},
                 seconds / 6);
    const double flops = 2.0 * static_cast<double>(width * width) * static_cast<double>(width);
    best = std::max(best, flops / entry.fastest_seconds);
    if (entry.fastest_seconds > 0.01) break;
  }
  return best;
}

}  // namespace quire

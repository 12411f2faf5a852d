#include "bench/ceilings.h"

#include <algorithm>
#include <vector>

#include "bench/report.h"
#include "kernels/cpu/peak.h"

namespace quire {

Ceilings measure_ceilings(Device& device, const CeilingOptions& options) {
  Ceilings ceilings;
  {
    cpu::ThreadPool pool(options.threads);
    ceilings.read_bytes_per_second =
        cpu::measure_read_bandwidth(pool, options.bytes, options.seconds);
    ceilings.fma_flops_per_second = cpu::measure_fma_peak(pool, options.seconds);
  }
  constexpr std::int64_t n = 1024;
  const std::vector<float> noise = [] {
    std::vector<float> values(n * n);
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = random_uniform({1, 2}, i) - 0.5f;
    return values;
  }();
  const std::size_t bytes = noise.size() * sizeof(float);
  const Buffer x(device, bytes), weight(device, bytes), out(device, bytes);
  device.copy_to_device(x.data(), noise.data(), bytes);
  device.copy_to_device(weight.data(), noise.data(), bytes);
  BenchEntry entry;
  entry.flops = 2.0 * n * n * n;
  time_runs(
      entry,
      [&] {
        device.matmul_forward({.out = View(out.data(), DType::f32, {n, n}),
                               .x = ConstView(x.data(), DType::f32, {n, n}),
                               .weight = ConstView(weight.data(), DType::f32, {n, n})});
        device.synchronize();
      },
      options.seconds, 3);
  ceilings.gemm_flops_per_second = entry.flops / entry.fastest_seconds;
  return ceilings;
}

}  // namespace quire

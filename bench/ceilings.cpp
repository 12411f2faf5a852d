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
  ceilings.gemm_flops_per_second = measure_matmul(device, options.seconds);
  return ceilings;
}

double measure_matmul(Device& device, double seconds) {
  constexpr std::int64_t M = 256, K = 768, N = 3072;
  std::vector<float> noise(K * N);
  for (std::size_t i = 0; i < noise.size(); ++i) noise[i] = random_uniform({1, 2}, i) - 0.5f;
  const Buffer x(device, M * K * sizeof(float)), weight(device, K * N * sizeof(float)),
      out(device, M * N * sizeof(float));
  device.copy_to_device(x.data(), noise.data(), x.size());
  device.copy_to_device(weight.data(), noise.data(), weight.size());
  BenchEntry entry;
  time_runs(
      entry,
      [&] {
        device.matmul_forward({.out = View(out.data(), DType::f32, {M, N}),
                               .x = ConstView(x.data(), DType::f32, {M, K}),
                               .weight = ConstView(weight.data(), DType::f32, {K, N})});
        device.synchronize();
      },
      seconds, /*least_samples=*/3);
  return 2.0 * M * K * N / entry.fastest_seconds;
}

}  // namespace quire

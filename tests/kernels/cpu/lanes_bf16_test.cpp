// Rows in the lanes of vectors, in bfloat16: as many as there can be and of any depth, those too that are
// faster otherwise.
#include "kernels/cpu/lanes.h"

#include <cmath>
#include <string>

#include "kernels/cpu/device.h"
#include "kernels/cpu/gemm_bf16.h"
#include "kernels/cpu/stream.h"
#include "tests/support/bf16.h"
#include "tests/support/catch.h"
#include "tests/support/compare.h"
#include "tests/support/data.h"
#include "tests/support/devices.h"
#include "tests/support/half_types.h"
#include "tests/support/products.h"

namespace quire::test {
namespace {

/// Of AVX-512 BF16, whatever else the processor has.
cpu::Bf16Formats formats() {
  return {cpu::bf16_format(), cpu::bf16_streams()};
}
cpu::Bf16Formats formats_in_lanes() {
  cpu::LanesFormat lanes = cpu::bf16_lanes();
  lanes.suits = [](const cpu::Product& p) { return p.m <= cpu::kMostRowsInLanes; };
  return {cpu::bf16_format(), cpu::bf16_streams(), lanes};
}

class Devices {
  cpu::CpuDevice without_{1, formats()}, one_{1, formats_in_lanes()}, three_{3, formats_in_lanes()};

 public:
  TestDevice streamed{"streamed", without_};
  std::vector<TestDevice> in_lanes{{"in lanes, 1 thread", one_}, {"in lanes, 3 threads", three_}};
};

/// Sums of products each far below the smallest float, but the last one, which is `last` times such a
/// weight.
void check_vanishing(const Devices& devices, float scale, float last, std::int64_t K) {
  constexpr std::int64_t N = 50, kRows = 64;
  const std::vector<float> weight(static_cast<std::size_t>(K * N), -scale * 0x1p-100f);
  std::vector<float> x(static_cast<std::size_t>(kRows * K), 0x1p-100f);
  for (std::int64_t m = 1; m <= kRows; ++m) x[static_cast<std::size_t>(m * K - 1)] = last;
  const std::vector<float> out(static_cast<std::size_t>(kRows * N), -0.0f);
  ForwardCase c{.M = 1,
                .K = K,
                .N = N,
                .layout = WeightLayout::out_in,
                .dtype = DType::bf16,
                .bias = false,
                .multiply = Multiply::in_bf16};
  const float product = run_forward(devices.streamed, c, slice(x, 0, K), weight).out.front();
  const float sum =
      run_add(devices.streamed, c, scale, slice(x, 0, K), weight, slice(out, 0, N)).front();
  CHECK((std::signbit(sum) || last == 0.0f));
  for (std::int64_t M = 1; M <= kRows; ++M) {
    c.M = M;
    const TestDevice& device = devices.in_lanes[static_cast<std::size_t>(M / 2 % 2)];
    const std::string what = join(device.name, "scale", scale, "last", last, "M", M, "K", K);
    const std::vector<float> rows = slice(x, 0, M * K);
    const auto count = static_cast<std::size_t>(M * N);
    compare_bits(what, run_forward(device, c, rows, weight).out,
                 std::vector<float>(count, product));
    compare_bits(what + " sum", run_add(device, c, scale, rows, weight, slice(out, 0, M * N)),
                 std::vector<float>(count, sum));
  }
}

}  // namespace

TEST_CASE("up to 64 rows in lanes have the bits in bfloat16 of each row alone, streamed") {
  QUIRE_NEEDS_BF16(cpu_with_threads().front().device);
  const Devices devices;
  constexpr std::int64_t kRows = 64;
  constexpr float kScale = -0.7f;
  // One part of the sum of 192 and less, or several, of which the last is short; odd ones; columns on both
  // sides of what is multiplied and put at once.
  for (const auto& [K, N] : {std::pair<std::int64_t, std::int64_t>{1, 50},
                             {190, 97},
                             {193, 7},
                             {385, 131},
                             {600, 48},
                             {1039, 65}}) {
    const std::vector<float> x = normal(kRows * K, 31);
    const std::vector<float> weight = rounded_to(DType::bf16, normal(K * N, 32));
    const std::vector<float> out = normal(kRows * N, 33);
    ForwardCase c{.M = 1,
                  .K = K,
                  .N = N,
                  .layout = WeightLayout::out_in,
                  .dtype = DType::bf16,
                  .activation = Activation::gelu_new,
                  .multiply = Multiply::in_bf16};
    Forward alone;
    std::vector<float> sum_alone;
    for (std::int64_t m = 0; m < kRows; ++m) {
      const std::vector<float> row = slice(x, m * K, K);
      const Forward product = run_forward(devices.streamed, c, row, weight);
      alone.pre.insert(alone.pre.end(), product.pre.begin(), product.pre.end());
      alone.out.insert(alone.out.end(), product.out.begin(), product.out.end());
      const std::vector<float> sum =
          run_add(devices.streamed, c, kScale, row, weight, slice(out, m * N, N));
      sum_alone.insert(sum_alone.end(), sum.begin(), sum.end());
    }
    for (std::int64_t M = 1; M <= kRows; ++M) {
      c.M = M;
      c.shift = M % 2;
      const TestDevice& device = devices.in_lanes[static_cast<std::size_t>(M / 2 % 2)];
      const std::int64_t first = M * 7 % (kRows - M + 1);
      const std::vector<float> rows = slice(x, first * K, M * K);
      const std::string what = join(device.name, "M", M, "K", K, "N", N);
      const Forward got = run_forward(device, c, rows, weight);
      compare_bits(what + " pre", got.pre, slice(alone.pre, first * N, M * N));
      compare_bits(what + " out", got.out, slice(alone.out, first * N, M * N));
      compare_bits(what + " sum",
                   run_add(device, c, kScale, rows, weight, slice(out, first * N, M * N)),
                   slice(sum_alone, first * N, M * N));
    }
  }
}

TEST_CASE(
    "in lanes sums in bfloat16 that vanish below zero have the sign of that row alone, streamed") {
  QUIRE_NEEDS_BF16(cpu_with_threads().front().device);
  const Devices devices;
  for (const std::int64_t K : {1, 32, 33, 192, 200, 385, 577}) {
    check_vanishing(devices, 1.0f, 0x1p-100f, K);
    check_vanishing(devices, -1.0f, 0x1p-100f, K);
    // Behind the end of an odd K, x is 0 times the scale, which the last term here leaves as it is.
    check_vanishing(devices, -1.0f, 0.0f, K);
  }
}

}  // namespace quire::test

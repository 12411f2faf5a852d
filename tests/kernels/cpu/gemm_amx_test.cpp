// Products by AMX: the order of their sums, bit for bit, on emulated tiles and on the processor's where
// it has them. That they are right at all is tests/kernels/matmul_bf16_test.cpp's.
#include "kernels/cpu/gemm_amx.h"

#include <bit>
#include <string>

#include "kernels/cpu/device.h"
#include "kernels/cpu/tile_arithmetic.h"
#include "tests/support/bf16.h"
#include "tests/support/catch.h"
#include "tests/support/compare.h"
#include "tests/support/data.h"
#include "tests/support/emulated_tiles.h"
#include "tests/support/half_types.h"
#include "tests/support/products.h"

namespace quire::test {
namespace {

/// before + a·b + bias in the order of tiles, of numbers that are rounded here; before and bias may be
/// empty.
std::vector<float> in_order_of_tiles(const std::vector<float>& a, const std::vector<float>& b,
                                     std::int64_t M, std::int64_t K, std::int64_t N,
                                     const std::vector<float>& before,
                                     const std::vector<float>& bias) {
  const auto narrow = [](float x) {
    return static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(x) >> 16);
  };
  const std::vector<float> a_rounded = rounded_to(DType::bf16, a),
                           b_rounded = rounded_to(DType::bf16, b);
  std::vector<float> c(static_cast<std::size_t>(M * N));
  for (std::int64_t m = 0; m < M; ++m) {
    for (std::int64_t n = 0; n < N; ++n) {
      float total = before.empty() ? 0.0f : before[m * N + n];
      for (std::int64_t first = 0; first < K; first += cpu::kAmxSumDepth) {
        const std::int64_t end = std::min(first + cpu::kAmxSumDepth, K);
        float part = 0.0f;
        for (std::int64_t k = first; k < end; k += cpu::tile::kStepDepth) {
          std::uint16_t row[cpu::tile::kStepDepth] = {}, column[cpu::tile::kStepDepth] = {};
          for (std::int64_t i = k; i < std::min(end, k + cpu::tile::kStepDepth); ++i) {
            row[i - k] = narrow(a_rounded[m * K + i]);
            column[i - k] = narrow(b_rounded[i * N + n]);
          }
          part = cpu::tile::with_step(part, row, column, 1);
        }
        total = first == 0 && before.empty() ? part : total + part;
      }
      c[m * N + n] = bias.empty() ? total : total + bias[n];
    }
  }
  return c;
}

std::vector<float> scaled(std::vector<float> x, float scale) {
  for (float& value : x) value *= scale;
  return x;
}

/// All products of the shape; `scale` of x and of the weight may make them subnormal.
void check_order(const std::vector<TestDevice>& devices, std::int64_t M, std::int64_t K,
                 std::int64_t N, float scale = 1.0f) {
  static std::size_t turn = 0;
  const TestDevice& device = devices[++turn % devices.size()];
  const DType dtype =
      std::array{DType::f32, DType::bf16, DType::bf16, DType::f16}[turn % (scale < 1 ? 3 : 4)];
  const std::vector<float> x = scaled(normal(M * K, 1), scale),
                           d_out = scaled(normal(M * N, 2), scale);
  const std::vector<float> weight = rounded_to(dtype, scaled(normal(K * N, 3), scale));
  const std::vector<float> old = scaled(normal(K * N, 4), scale * scale),
                           out = scaled(normal(M * N, 5), scale * scale);
  const auto order = in_order_of_tiles;
  for (const WeightLayout layout : kLayouts) {
    const ForwardCase c{.M = M,
                        .K = K,
                        .N = N,
                        .layout = layout,
                        .dtype = dtype,
                        .bias = turn % 3 != 0,
                        .shift = static_cast<std::int64_t>(turn % 2),
                        .multiply = Multiply::in_bf16};
    const std::string what = join("order of tiles:", device.name, name_of(dtype), name_of(layout),
                                  M, K, N, "times", scale);
    compare_bits(what + " forward", run_forward(device, c, x, weight).pre,
                 order(x, weight, M, K, N, {}, c.bias ? normal(N, 23) : std::vector<float>()));
    compare_bits(what + " d_x", run_backward_input(device, c, d_out, weight),
                 order(d_out, flipped(weight, K, N), M, N, K, {}, {}));
    compare_bits(what + " d_weight", run_backward_weight(device, c, d_out, x, old).d_weight,
                 order(flipped(x, M, K), d_out, K, M, N, old, {}));
    compare_bits(what + " added", run_add(device, c, -0.7f, x, weight, out),
                 order(scaled(x, -0.7f), weight, M, K, N, out, {}));
  }
}

struct Shape {
  std::int64_t M, K, N;
};
/// Tiles are 16 × 16 in panels of 32, steps 32 deep, parts 384, slabs of 3 panels; up to 7 or 8 rows are streamed.
constexpr Shape kShapes[] = {
    {1, 1, 1},     {2, 15, 17},   {3, 16, 16},   {4, 17, 15},   {5, 31, 33},    {6, 32, 32},
    {7, 33, 31},   {8, 63, 65},   {9, 65, 63},   {15, 1, 33},   {16, 33, 1},    {17, 191, 15},
    {31, 192, 17}, {32, 193, 31}, {33, 32, 97},  {63, 64, 32},  {65, 16, 129},  {1, 384, 64},
    {8, 385, 63},  {40, 769, 33}, {7, 800, 100}, {1, 1000, 70}, {513, 40, 100}, {97, 96, 65},
};

void check_orders(const std::vector<TestDevice>& devices) {
  for (const auto& [M, K, N] : kShapes) {
    for (int turn = 0; turn < 3; ++turn) check_order(devices, M, K, N);
  }
  // Products about 2^-126, whose sums and steps are partly subnormal.
  for (const std::int64_t M : {1, 5, 8, 9, 40}) {
    for (int turn = 0; turn < 6; ++turn) check_order(devices, M, 71, 45, 0x1p-63f);
  }
}

TEST_CASE("products by tiles have the bits of plain loops in their order, for few rows and many") {
  QUIRE_NEEDS_BF16(cpu_with_threads().front().device);
  const std::int64_t before = EmulatedTiles::products;
  check_orders(cpu_with_emulated_tiles());
  CHECK(EmulatedTiles::products > before + 10'000);
}

TEST_CASE("the processor's tiles have the bits of plain loops in their order") {
  const std::string why = cpu::why_no_amx();
  if (!why.empty()) {
    WARN("SKIPPED: no AMX on the CPU: " << why);
    return;
  }
  const cpu::Bf16Formats formats = {cpu::amx_format(), cpu::amx_streams()};
  cpu::CpuDevice one(1, formats), three(3, formats);
  check_orders({{"tiles, 1 thread", one}, {"tiles, 3 threads", three}});
}

TEST_CASE("few rows are streamed, and tiles multiply where there are more") {
  QUIRE_NEEDS_BF16(cpu_with_threads().front().device);
  for (const auto& [rows, by_tiles] : {std::pair{7, false}, {8, true}}) {
    const std::int64_t before = EmulatedTiles::products;
    const ForwardCase c{
        .M = rows, .K = 40, .N = 40, .dtype = DType::bf16, .multiply = Multiply::in_bf16};
    run_forward(cpu_with_emulated_tiles().front(), c, normal(rows * 40, 1), normal(1600, 2));
    CHECK((EmulatedTiles::products > before) == by_tiles);
  }
}

TEST_CASE("tiles of a processor that multiplies in another order are not used") {
  QUIRE_NEEDS_BF16(cpu_with_threads().front().device);
  CHECK(cpu::agrees_with_loops(emulated_tile_format()));
  for (const TileFault fault : {TileFault::adds_in_turn, TileFault::one_chain,
                                TileFault::keeps_subnormals, TileFault::drops_last_row}) {
    CAPTURE(static_cast<int>(fault));
    EmulatedTiles::fault = fault;
    CHECK_FALSE(cpu::agrees_with_loops(emulated_tile_format()));
    EmulatedTiles::fault = TileFault::none;
  }
}

}  // namespace
}  // namespace quire::test

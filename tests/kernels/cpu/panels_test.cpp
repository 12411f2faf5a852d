// Weights laid out in panels: where each element lies, and that products read them with the bits of any
// other layout.
#include "kernels/cpu/panels.h"

#include <string>

#include "kernels/cpu/device.h"
#include "kernels/open_device.h"
#include "kernels/reference/reference_device.h"
#include "tests/support/bf16.h"
#include "tests/support/catch.h"
#include "tests/support/compare.h"
#include "tests/support/data.h"
#include "tests/support/devices.h"
#include "tests/support/half_types.h"
#include "tests/support/products.h"

namespace quire::test {
namespace {

struct Panels {
  Weight weight;
  Guarded& memory;
};

/// `from` in panels, laid out in two calls.
Panels lay_out(Stage& stage, Device& device, const Weight& from, WeightLayout layout) {
  Weight to(nullptr, from.format, layout, {from.in(), from.out()});
  const std::int64_t panels = (from.out() + kPanelColumns - 1) / kPanelColumns;
  Guarded& memory = stage.output({panels * to.panel_elements()}, from.dtype());
  to.data = View(memory).bytes();
  device.lay_out(from, layout, 0, 1, View(memory).bytes());
  device.lay_out(from, layout, 1, panels - 1, View(memory).bytes());
  return {to, memory};
}

/// Of element (k, n).
std::int64_t place_of(const Weight& w, std::int64_t k, std::int64_t n) {
  const std::int64_t panel = n / kPanelColumns * w.panel_elements(), column = n % kPanelColumns;
  return w.layout == WeightLayout::panels ? panel + k * kPanelColumns + column
                                          : panel + (k / 2 * kPanelColumns + column) * 2 + k % 2;
}

Forward forward_by_panels(const TestDevice& device, const ForwardCase& c, WeightLayout layout,
                          const std::vector<float>& x, const std::vector<float>& weight) {
  Stage stage(device.device, join("matmul by panels", device.name, c.M, c.K, c.N));
  Guarded& out = stage.output({c.M, c.N});
  Guarded& pre = stage.output({c.M, c.N});
  const Weight from = put_weight(stage, weight, c.K, c.N, c.layout, c.dtype);
  device.device.matmul_forward({.out = out,
                                .pre_activation = pre,
                                .x = stage.input(x, {c.M, c.K}),
                                .weight = lay_out(stage, device.device, from, layout).weight,
                                .bias = stage.input(normal(c.N, 23), {c.N}),
                                .activation = c.activation,
                                .multiply = c.multiply});
  return {out.floats(), pre.floats()};
}

/// Up to a register tile of rows and more, whole and not; several tasks of rows.
constexpr std::int64_t kRows[] = {1, 2, 3, 4, 5, 7, 8, 9, 17, 64, 65, 130, 521};

void check_products(DType dtype, Multiply multiply, WeightLayout layout) {
  // Parts of the sum of 128 and of 192: one, several, a short last one; odd K. Columns: less than a panel,
  // whole ones, and a last one on both sides of half a panel. The deepest is packed in two pieces.
  for (const auto& [K, N] : {std::pair<std::int64_t, std::int64_t>{1, 50},
                             {127, 48},
                             {129, 7},
                             {385, 131},
                             {600, 289},
                             {8400, 70}}) {
    for (const std::int64_t M : kRows) {
      if (M * K * N > 100'000'000 || (K > 8000 && M > 9)) continue;
      const std::vector<float> x = normal(M * K, 41);
      const std::vector<float> weight = rounded_to(dtype, normal(K * N, 42));
      ForwardCase c{.M = M,
                    .K = K,
                    .N = N,
                    .layout = M % 2 == 0 ? WeightLayout::in_out : WeightLayout::out_in,
                    .dtype = dtype,
                    .activation = Activation::gelu_new,
                    .multiply = multiply};
      const auto devices = cpu_with_threads();
      const Forward want = run_forward(devices.front(), c, x, weight);
      for (const TestDevice& device : devices) {
        const std::string what = join(device.name, "M", M, "K", K, "N", N);
        const Forward got = forward_by_panels(device, c, layout, x, weight);
        compare_bits(what + " pre", got.pre, want.pre);
        compare_bits(what + " out", got.out, want.out);
      }
    }
  }
}

}  // namespace

TEST_CASE("panels hold every element at its place and zeros behind the last column") {
  const TestDevice& device = cpu_with_threads().back();
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16}) {
    for (const WeightLayout layout : {WeightLayout::panels, WeightLayout::pair_panels}) {
      if (layout == WeightLayout::pair_panels &&
          (dtype != DType::bf16 || !device.device.why_not_in_bf16().empty())) {
        continue;
      }
      for (const WeightLayout from : kLayouts) {
        for (const auto& [K, N] : {std::pair<std::int64_t, std::int64_t>{1, 1},
                                   {7, 5},
                                   {8, 48},
                                   {33, 50},
                                   {41, 97},
                                   {130, 144}}) {
          INFO(name_of(dtype) << " from " << name_of(from) << " K " << K << " N " << N);
          std::vector<float> values(static_cast<std::size_t>(K * N));
          for (std::size_t i = 0; i < values.size(); ++i) values[i] = 1.0f + i * 7 % 251;
          Stage stage(device.device, "lay_out");
          const Weight stored = put_weight(stage, values, K, N, from, dtype);
          const Panels panels = lay_out(stage, device.device, stored, layout);
          CHECK(panels.weight.size_bytes() == panels.memory.floats().size() * size_of(dtype));
          std::vector<float> want(panels.memory.floats().size());
          for (std::int64_t k = 0; k < K; ++k) {
            for (std::int64_t n = 0; n < N; ++n) {
              want[static_cast<std::size_t>(place_of(panels.weight, k, n))] =
                  values[static_cast<std::size_t>(k * N + n)];
            }
          }
          CHECK(panels.memory.floats() == want);
        }
      }
    }
  }
}

TEST_CASE("products by panels have the bits of those by rows") {
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16}) {
    check_products(dtype, Multiply::as_stored, WeightLayout::panels);
  }
}

TEST_CASE("products by panels in bfloat16 have the bits of those by rows") {
  QUIRE_NEEDS_BF16(cpu_with_threads().front().device);
  check_products(DType::bf16, Multiply::in_bf16, WeightLayout::pair_panels);
}

TEST_CASE("few rows by panels scale and add to what is there") {
  const TestDevice& device = cpu_with_threads().back();
  cpu::ThreadPool pool(3);
  constexpr std::int64_t K = 300, N = 101;
  constexpr float kScale = -0.7f;
  const std::vector<float> weight = normal(K * N, 51), old = normal(cpu::kFewRows * N, 52);
  for (std::int64_t M = 1; M <= cpu::kFewRows; ++M) {
    const std::vector<float> x = normal(M * K, 53);
    Stage stage(device.device, join("few rows by panels", M));
    const Weight from = put_weight(stage, weight, K, N, WeightLayout::in_out, DType::f32);
    const Weight panels = lay_out(stage, device.device, from, WeightLayout::panels).weight;
    Guarded& out = stage.in_out(slice(old, 0, M * N), {M, N});
    cpu::few_rows_by_panels(
        {.m = M,
         .n = N,
         .k = K,
         .a = {View(stage.input(x, {M, K})).bytes(), DType::f32, K, 1},
         .b = {panels.data, DType::f32, kPanelColumns, 1, panels.panel_elements()},
         .c = View(out).data<float>(),
         .c_stride = N,
         .a_scale = kScale,
         .output = cpu::Product::Output::accumulate},
        cpu::floats_by_panels(), {}, pool);
    const ForwardCase c{.M = M, .K = K, .N = N};
    compare_bits(join("M", M), out.floats(),
                 run_add(device, c, kScale, x, weight, slice(old, 0, M * N)));
  }
}

TEST_CASE("panels are refused where nothing reads them") {
  const auto processor = open_device("cpu"), reference = open_reference_device();
  std::vector<float> memory(4 * kPanelColumns), x(4), out(kPanelColumns);
  const auto weight_in = [&](WeightLayout layout, DType dtype) {
    return Weight(memory.data(), format_of(dtype), layout, {4, kPanelColumns});
  };
  const auto product_on = [&](Device& device, const Weight& weight, Multiply multiply) {
    return error_of([&] {
      device.matmul_forward({.out = View(out.data(), {1, kPanelColumns}),
                             .x = View(x.data(), {1, 4}),
                             .weight = weight,
                             .multiply = multiply});
    });
  };
  const Weight plain = weight_in(WeightLayout::panels, DType::f32);
  CHECK(product_on(*reference, plain, Multiply::as_stored) ==
        "matmul: reference does not read float32 in panels, multiplied as it is stored");
  const std::string here = "matmul: " + processor->description() + " does not read bfloat16 in ";
  CHECK(product_on(*processor, weight_in(WeightLayout::pair_panels, DType::bf16),
                   Multiply::as_stored) == here + "pair_panels, multiplied as it is stored");
  if (processor->why_not_in_bf16().empty()) {
    CHECK(product_on(*processor, weight_in(WeightLayout::panels, DType::bf16), Multiply::in_bf16) ==
          here + "panels, multiplied in bfloat16");
  }
  CHECK(error_of([&] {
          processor->matmul_backward_input({.d_x = View(x.data(), {1, 4}),
                                            .d_out = View(out.data(), {1, kPanelColumns}),
                                            .weight = plain});
        }) == "matmul_backward_input: weight is in panels, wants [K, N] or [N, K]");
  CHECK(reference->layout_to_decode(DType::f32, Multiply::as_stored) == std::nullopt);
  CHECK(processor->layout_to_decode(DType::f16, Multiply::as_stored) == WeightLayout::panels);
  CHECK(error_of([&] {
          reference->lay_out(Weight(View(memory.data(), {4, 48}), WeightLayout::in_out),
                             WeightLayout::panels, 0, 1, memory.data());
        }) == "reference lays out no weights in panels");
}

}  // namespace quire::test

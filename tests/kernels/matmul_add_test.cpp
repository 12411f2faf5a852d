// A scaled product added to what is there: what adapters are made of.
#include <algorithm>

#include "kernels/reference/formulas.h"
#include "tests/support/cases.h"
#include "tests/support/catch.h"
#include "tests/support/compare.h"
#include "tests/support/data.h"
#include "tests/support/devices.h"
#include "tests/support/guarded.h"
#include "tests/support/half_types.h"
#include "tests/support/products.h"

using namespace quire;
using namespace quire::test;

namespace {

struct AddCase {
  std::int64_t M, K, N;
  WeightLayout layout = WeightLayout::in_out;
  float scale = 1.0f;
  std::int64_t shift = 0;
  DType activations = DType::f32, weights = DType::f32;
};

struct Operands {
  std::vector<float> x, weight, old;  // weight as [K, N]
};

Operands operands_of(const AddCase& c) {
  return {.x = rounded_to(c.activations, normal(c.M * c.K, 1)),
          .weight = rounded_to(c.weights, normal(c.K * c.N, 2)),
          .old = rounded_to(c.activations, normal(c.M * c.N, 3))};
}

std::vector<float> run(const TestDevice& device, const AddCase& c, const Operands& o) {
  const ForwardCase shape{.M = c.M,
                          .K = c.K,
                          .N = c.N,
                          .layout = c.layout,
                          .dtype = c.weights,
                          .shift = c.shift,
                          .activations = c.activations};
  return run_add(device, shape, c.scale, o.x, o.weight, o.old);
}

/// x · weight; the sizes of its terms; and how far each is off where a wider weight is read in the
/// activations' type, as it may be.
struct Sums {
  Doubles value, size, off;

  Sums(const AddCase& c, const Operands& o)
      : value(static_cast<std::size_t>(c.M * c.N)), size(value), off(value) {
    Doubles rounding(o.weight.size());
    for (std::size_t i = 0; c.weights == DType::f32 && i < rounding.size(); ++i) {
      rounding[i] = half_ulp(c.activations, std::abs(o.weight[i]));
    }
    for (std::int64_t m = 0; m < c.M; ++m) {
      double *const values = value.data() + m * c.N, *const sizes = size.data() + m * c.N,
                    *const offs = off.data() + m * c.N;
      for (std::int64_t k = 0; k < c.K; ++k) {
        const double x = o.x[m * c.K + k];
        const float* const row = o.weight.data() + k * c.N;
        const double* const row_rounding = rounding.data() + k * c.N;
        for (std::int64_t n = 0; n < c.N; ++n) {
          values[n] += x * row[n];
          sizes[n] += std::abs(x * row[n]);
          offs[n] += std::abs(x) * row_rounding[n];
        }
      }
    }
  }
};

std::string text_of(const TestDevice& device, const AddCase& c) {
  return join("matmul_add", device.name, quire::name_of(c.activations), quire::name_of(c.weights),
              c.layout == WeightLayout::in_out ? "[K, N]" : "[N, K]", "scale", c.scale, "M", c.M,
              "K", c.K, "N", c.N);
}

}  // namespace

TEST_CASE("matmul_add adds its formula to what is there, for every type and layout") {
  constexpr DType kTypes[] = {DType::f32, DType::bf16, DType::f16};
  int turn = 0;
  for (const auto [M, K, N] : cases::kMatmul) {
    for (const DType activations : kTypes) {
      for (const DType weights : kTypes) {
        if (activations != DType::f32 && weights != DType::f32 && weights != activations) {
          continue;  // no model has two 16-bit types
        }
        AddCase c{.M = M, .K = K, .N = N, .activations = activations, .weights = weights};
        const Operands o = operands_of(c);
        const Sums sums(c, o);
        for (const TestDevice& device : devices_for_products()) {
          if (std::ranges::find(device.types, activations) == device.types.end()) continue;
          ++turn;
          c.layout = turn % 2 == 0 ? WeightLayout::in_out : WeightLayout::out_in;
          c.scale = turn % 3 == 0 ? 1.0f : -1.75f;
          c.shift = turn / 2 % 2;
          Doubles want = widened(o.old), bound(want.size());
          for (std::size_t i = 0; i < want.size(); ++i) {
            const double old = std::abs(want[i]), scale = std::abs(c.scale);
            want[i] += c.scale * sums.value[i];
            bound[i] = stored(activations, want[i],
                              (static_cast<double>(K) + 3.0) * kEps * (scale * sums.size[i] + old) +
                                  scale * sums.off[i]);
          }
          compare(text_of(device, c), run(device, c, o), want, bound);
        }
      }
    }
  }
}

TEST_CASE("a row of matmul_add does not depend on other rows or on threads") {
  constexpr std::int64_t kRows = 40;
  for (const WeightLayout layout : {WeightLayout::in_out, WeightLayout::out_in}) {
    for (const auto& [K, N] :
         {std::pair<std::int64_t, std::int64_t>{768, 8}, {8, 300}, {513, 20}}) {
      const AddCase all{.M = kRows, .K = K, .N = N, .layout = layout, .scale = 0.3f};
      const Operands o = operands_of(all);
      const std::vector<float> want = run(cpu_with_threads().front(), all, o);
      for (const TestDevice& device : cpu_with_threads()) {
        compare_bits(text_of(device, all), run(device, all, o), want);
        for (const std::int64_t M : {1, 7, 8, 9, 17}) {
          AddCase some = all;
          some.M = M;
          const std::int64_t first = (M * 7) % (kRows - M + 1);
          const Operands part{.x = slice(o.x, first * K, M * K),
                              .weight = o.weight,
                              .old = slice(o.old, first * N, M * N)};
          compare_bits(text_of(device, some), run(device, some, part),
                       slice(want, first * N, M * N));
        }
      }
    }
  }
}

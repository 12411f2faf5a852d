#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "kernels/reference/formulas.h"
#include "tests/support/cases.h"
#include "tests/support/catch.h"
#include "tests/support/compare.h"
#include "tests/support/data.h"
#include "tests/support/devices.h"
#include "tests/support/guarded.h"
#include "tests/support/half_types.h"

using namespace quire;
using namespace quire::test;

namespace {

/// Targets all over the vocabulary, its first and last id among them, every fifth ignored.
std::vector<std::int32_t> some_targets(std::int64_t N, std::int64_t V) {
  std::vector<std::int32_t> targets = integers(N, 41, V);
  targets[0] = static_cast<std::int32_t>(V - 1);
  for (std::int64_t n = 1; n < N; ++n) {
    if (n % 5 == 1) targets[n] = kIgnoredTarget;
    if (n % 5 == 2) targets[n] = 0;
  }
  return targets;
}

struct Result {
  std::vector<float> losses, gradients;
};

std::vector<float> run_forward(const TestDevice& device, const std::vector<float>& logits,
                               const std::vector<std::int32_t>& targets, std::int64_t V,
                               std::int64_t shift = 0, DType dtype = DType::f32) {
  const auto N = static_cast<std::int64_t>(targets.size());
  Stage stage(device.device, join("cross_entropy", device.name, name_of(dtype), N, V), shift);
  Guarded& losses = stage.output({N});
  device.device.cross_entropy_forward({.losses = losses,
                                       .logits = stage.input(logits, {N, V}, dtype),
                                       .targets = stage.input(targets, {N})});
  return losses.floats();
}

Result run_backward(const TestDevice& device, const std::vector<float>& logits,
                    const std::vector<std::int32_t>& targets, std::int64_t V, float scale,
                    std::int64_t shift = 0, DType dtype = DType::f32) {
  const auto N = static_cast<std::int64_t>(targets.size());
  Stage stage(device.device, join("cross_entropy_backward", device.name, name_of(dtype), N, V),
              shift);
  Guarded& losses = stage.output({N});
  Guarded& both = stage.in_out(logits, {N, V}, dtype);
  device.device.cross_entropy_backward({.losses = losses,
                                        .logits_to_grads = both,
                                        .targets = stage.input(targets, {N}),
                                        .scale = scale});
  return {losses.floats(), both.floats()};
}

/// Logits of 16-bit types are rounded first; such gradients are then rounded once, when stored.
void compare_with_formula(const TestDevice& device, const std::vector<float>& unrounded,
                          const std::vector<std::int32_t>& targets, std::int64_t V,
                          std::int64_t shift, DType dtype) {
  constexpr float kScale = 0.37f;
  const std::vector<float> logits = rounded_to(dtype, unrounded);
  const auto N = static_cast<std::int64_t>(targets.size());
  const Doubles want = reference::cross_entropy(widened(logits), targets);
  const Doubles want_gradients =
      reference::cross_entropy_gradients(widened(logits), targets, kScale);
  // The sum of V exponentials is off by V roundings and its terms by a few; its logarithm turns
  // that into an absolute error. Then come the roundings of the numbers
  // that are added and subtracted.
  Doubles of_loss(targets.size()), of_gradient(logits.size());
  for (std::int64_t n = 0; n < N; ++n) {
    if (targets[n] == kIgnoredTarget) continue;
    const float* row = logits.data() + n * V;
    const double largest = std::abs(*std::max_element(row, row + V));
    const double lse = want[n] + row[targets[n]];
    const double of_lse =
        (static_cast<double>(V) + 8.0) * kEps + 4.0 * kEps * (std::abs(lse) + largest);
    of_loss[n] = of_lse + 2.0 * kEps * (std::abs(row[targets[n]]) + want[n]);
    for (std::int64_t v = 0; v < V; ++v) {
      const double p = std::exp(row[v] - lse);
      of_gradient[n * V + v] = kScale * (p * (of_lse + 4.0 * kEps * std::abs(row[v])) +
                                         4.0 * kEps * p + (v == targets[n] ? 4.0 * kEps : 0.0)) +
                               0x1p-126;
      of_gradient[n * V + v] = stored(dtype, want_gradients[n * V + v], of_gradient[n * V + v]);
    }
  }
  const std::string what = join("cross_entropy", device.name, name_of(dtype), "N", N, "V", V);
  compare(what, run_forward(device, logits, targets, V, shift, dtype), want, of_loss);
  const Result got = run_backward(device, logits, targets, V, kScale, shift, dtype);
  compare(what + " losses", got.losses, want, of_loss);
  compare(what + " gradients", got.gradients, want_gradients, of_gradient);
}

}  // namespace

TEST_CASE("cross_entropy agrees with its formula, forward and backward") {
  for (const TestDevice& device : devices_under_test()) {
    for (const DType dtype : device.types) {
      std::int64_t shift = 0;
      for (const auto [N, V] : cases::kCrossEntropy) {
        for (const double deviation : {1.0, 12.0}) {
          compare_with_formula(device, normal(N * V, 42, 0.0, deviation), some_targets(N, V), V,
                               shift ^= 1, dtype);
        }
      }
    }
  }
}

TEST_CASE("cross_entropy agrees with its formula on rows longer than a GPU's shared memory") {
  for (const TestDevice& device : devices_under_test()) {
    for (const DType dtype : device.types) {
      const std::int64_t V = dtype == DType::f32 ? 60'001 : 120'003;
      compare_with_formula(device, normal(2 * V, 48), {static_cast<std::int32_t>(V - 1), 9}, V, 1,
                           dtype);
    }
  }
}

TEST_CASE("no element of a row longer than a GPU's shared memory is left out") {
  for (const TestDevice& device : devices_under_test()) {
    for (const DType dtype : device.types) {
      const std::int64_t V = dtype == DType::f32 ? 60'001 : 120'003;
      // Where chunks of eight elements a thread, and packs, begin and end.
      std::vector<std::int32_t> places = {0, 7, 8, 8190, 8191, 8192, 57344};
      places.push_back(static_cast<std::int32_t>(V - 1));
      std::vector<float> logits(places.size() * static_cast<std::size_t>(V), -9.0f);
      for (std::size_t n = 0; n < places.size(); ++n) logits[n * V + places[n]] = 40.0f;
      compare_with_formula(device, logits, places, V, 1, dtype);
    }
  }
}

TEST_CASE("cross_entropy neither overflows nor underflows on large logits") {
  for (const TestDevice& device : devices_under_test()) {
    for (const DType dtype : device.types) {
      std::vector<float> logits = normal(4 * 33, 43);
      for (std::size_t i = 0; i < 33; ++i) {
        logits[i] += 2000.0f;
        logits[33 + i] -= 2000.0f;
        logits[66 + i] *= 3000.0f;  // all but one probability is zero
      }
      compare_with_formula(device, logits, {5, 32, 7, 0}, 33, 0, dtype);
    }
  }
}

TEST_CASE("cross_entropy takes logits so large that no two floats are close") {
  for (const TestDevice& device : devices_under_test()) {
    for (const DType dtype : device.types) {
      if (dtype == DType::f16) continue;                                    // has none
      const std::int64_t longest = dtype == DType::f32 ? 60'001 : 120'003;  // beyond shared memory
      for (const std::int64_t V : {std::int64_t{33}, longest}) {
        std::vector<float> logits = normal(4 * V, 57, 0.0, 1.0e9);  // some beyond 2^30, some not
        for (std::int64_t v = 0; v < V; ++v) {
          logits[V + v] *= 1.0e21f;
          logits[2 * V + v] -= 1.0e10f;
        }
        logits[3 * V + 2] = logits[3 * V + V - 1] = 1.0e10f;
        compare_with_formula(device, logits, {5, 32, 7, 2}, V, 0, dtype);
      }
    }
  }
}

TEST_CASE("cross_entropy takes logits of minus infinity, such as a mask leaves") {
  constexpr std::int64_t V = 1003;
  std::vector<float> logits = normal(2 * V, 49);
  for (std::int64_t v = 0; v < V; ++v) {
    if (v % 7 != 3) logits[v] = -std::numeric_limits<float>::infinity();
  }
  for (const TestDevice& device : devices_under_test()) {
    for (const DType dtype : device.types) {
      const std::vector<float> rounded = rounded_to(dtype, logits);
      const Doubles want = reference::cross_entropy(widened(rounded), {{10, 4}});
      const Doubles bound(2, (V + 8.0) * kEps);
      compare(join("masked", device.name, name_of(dtype)),
              run_forward(device, rounded, {10, 4}, V, 0, dtype), want, bound);
      const Result got = run_backward(device, rounded, {10, 4}, V, 1.0f, 0, dtype);
      compare(join("masked", device.name, name_of(dtype)), got.losses, want, bound);
      CHECK(got.gradients[0] == 0.0f);
      CHECK(got.gradients[17] > 0.0f);
    }
  }
}

TEST_CASE("ignored targets have no loss and no gradient, exactly") {
  for (const TestDevice& device : devices_under_test()) {
    const std::vector<float> logits = normal(3 * 17, 44);
    const std::vector<std::int32_t> targets = {kIgnoredTarget, 3, kIgnoredTarget};
    const Result got = run_backward(device, logits, targets, 17, 1.0f);
    compare_bits("losses " + device.name, {got.losses[0], got.losses[2]}, {0.0f, 0.0f});
    compare_bits("gradients " + device.name, slice(got.gradients, 34, 17),
                 std::vector<float>(17, 0.0f));
    CHECK(run_forward(device, logits, targets, 17)[0] == 0.0f);
    CHECK(got.losses[1] > 0.0f);
  }
}

TEST_CASE("columns behind the vocabulary are not read and have no gradient") {
  for (const TestDevice& device : devices_under_test()) {
    for (const DType dtype : device.types) {
      const std::int64_t longest = dtype == DType::f32 ? 60'001 : 120'003;  // beyond shared memory
      for (const auto [N, V, W] : {std::array<std::int64_t, 3>{5, 1003, 1024},
                                   {4, 7, 8},
                                   {3, 1, 128},
                                   {3, 57, 57 + 300},
                                   {2, longest, longest + 77}}) {
        const std::vector<float> logits = normal(N * V, 56, 0.0, 2.0);
        std::vector<float> wide(static_cast<std::size_t>(N * W),
                                std::numeric_limits<float>::quiet_NaN());
        for (std::int64_t n = 0; n < N; ++n) {
          std::copy_n(logits.begin() + n * V, V, wide.begin() + n * W);
        }
        std::vector<std::int32_t> targets = some_targets(N, V);
        const std::string what = join("columns", W, device.name, name_of(dtype), N, V);
        Stage stage(device.device, what);
        Guarded& losses = stage.output({N});
        Guarded& both_losses = stage.output({N});
        Guarded& both = stage.in_out(wide, {N, W}, dtype);
        Guarded& on_device = stage.input(targets, {N});
        device.device.cross_entropy_forward({.losses = losses,
                                             .logits = stage.input(wide, {N, W}, dtype),
                                             .targets = on_device,
                                             .vocab = V});
        device.device.cross_entropy_backward({.losses = both_losses,
                                              .logits_to_grads = both,
                                              .targets = on_device,
                                              .scale = 0.3f,
                                              .vocab = V});
        const Result alone = run_backward(device, logits, targets, V, 0.3f, 0, dtype);
        compare_bits(what + " forward", losses.floats(),
                     run_forward(device, logits, targets, V, 0, dtype));
        compare_bits(what + " losses", both_losses.floats(), alone.losses);
        const std::vector<float> gradients = both.floats();
        for (std::int64_t n = 0; n < N; ++n) {
          compare_bits(what, slice(gradients, n * W, V), slice(alone.gradients, n * V, V));
          compare_bits(what + " behind", slice(gradients, n * W + V, W - V),
                       std::vector<float>(static_cast<std::size_t>(W - V), 0.0f));
        }
      }
    }
  }
}

TEST_CASE("cross_entropy names a target outside the vocabulary") {
  for (const TestDevice& device : devices_under_test()) {
    if (!device.device.shares_host_memory()) continue;  // check.h: the host reads no targets there
    const std::vector<float> logits = normal(2 * 17, 45);
    const std::string wants = ", wants 0 to 16, or -100 to ignore it";
    CHECK(error_of([&] {
            run_forward(device, logits, {0, 17}, 17);
          }) == "cross_entropy: targets[1] is 17" + wants);
    CHECK(error_of([&] {
            run_backward(device, logits, {-1, 0}, 17, 1.0f);
          }) == "cross_entropy: targets[0] is -1" + wants);
    Stage stage(device.device, "a target behind the vocabulary");
    const std::vector<std::int32_t> behind = {12, 13};
    CHECK(error_of([&] {
            device.device.cross_entropy_forward({.losses = stage.output({2}),
                                                 .logits = stage.input(logits, {2, 17}),
                                                 .targets = stage.input(behind, {2}),
                                                 .vocab = 13});
          }) == "cross_entropy: targets[1] is 13, wants 0 to 12, or -100 to ignore it");
  }
}

TEST_CASE("a target outside the vocabulary makes its row NaN where the host cannot see it") {
  for (const TestDevice& device : devices_under_test()) {
    if (device.device.shares_host_memory()) continue;
    const std::vector<float> logits = normal(3 * 17, 45);
    const std::vector<std::int32_t> targets = {17, 3, -1};
    const Result got = run_backward(device, logits, targets, 17, 1.0f);
    for (const std::vector<float>& losses :
         {got.losses, run_forward(device, logits, targets, 17)}) {
      CHECK(std::isnan(losses[0]));
      CHECK(losses[1] > 0.0f);
      CHECK(std::isnan(losses[2]));
    }
    CHECK(std::isnan(got.gradients[16]));
    CHECK_FALSE(std::isnan(got.gradients[17]));
    CHECK(std::isnan(got.gradients[34]));
  }
}

TEST_CASE("a row of cross_entropy has the same bits wherever it lies") {
  constexpr std::int64_t kV = 1003;  // rows start at any place in 16 bytes
  for (const std::uint64_t seed : {50, 51, 52, 53}) {
    const std::vector<float> row = normal(kV, seed, 0.0, 0.5);  // flat: all terms count
    std::vector<float> logits;
    for (int n = 0; n < 9; ++n) logits.insert(logits.end(), row.begin(), row.end());
    for (const TestDevice& device : devices_under_test()) {
      for (const DType dtype : device.types) {
        const std::vector<std::int32_t> targets(9, 77);
        const Result got = run_backward(device, logits, targets, kV, 0.5f, 1, dtype);
        const std::vector<float> losses = run_forward(device, logits, targets, kV, 1, dtype);
        for (std::int64_t n = 1; n < 9; ++n) {
          const std::string what = join("row", n, device.name, name_of(dtype));
          compare_bits(what, slice(got.gradients, n * kV, kV), slice(got.gradients, 0, kV));
          compare_bits(what, {got.losses[n], losses[n]}, {got.losses[0], losses[0]});
        }
      }
    }
  }
}

TEST_CASE("a row longer than a GPU's shared memory has the same bits wherever it lies") {
  for (const TestDevice& device : devices_under_test()) {
    for (const DType dtype : device.types) {
      const std::int64_t V = dtype == DType::f32 ? 60'001 : 120'003;
      const std::vector<float> row = normal(V, 55, 0.0, 0.5);
      std::vector<float> logits;
      for (int n = 0; n < 3; ++n) logits.insert(logits.end(), row.begin(), row.end());
      const std::vector<std::int32_t> targets(3, 77);
      const Result got = run_backward(device, logits, targets, V, 0.5f, 1, dtype);
      const std::vector<float> losses = run_forward(device, logits, targets, V, 1, dtype);
      for (std::int64_t n = 1; n < 3; ++n) {
        const std::string what = join("row", n, device.name, name_of(dtype));
        compare_bits(what, slice(got.gradients, n * V, V), slice(got.gradients, 0, V));
        compare_bits(what, {got.losses[n], losses[n]}, {got.losses[0], losses[0]});
      }
      if (device.name == kCudaDevice) {
        compare_bits("with and without gradients", losses, got.losses);
      }
    }
  }
}

TEST_CASE("a row's loss does not depend on other rows nor on the number of threads") {
  const TestDevice& one = cpu_with_threads().front();
  for (const auto [N, V] : {cases::Rows{66, 63}, {33, 1003}, {5, 50257}}) {
    const std::vector<float> logits = normal(N * V, 46);
    const std::vector<std::int32_t> targets = some_targets(N, V);
    const Result want = run_backward(one, logits, targets, V, 0.1f);
    const std::vector<float> want_losses = run_forward(one, logits, targets, V);
    for (const TestDevice& device : cpu_with_threads()) {
      const std::string what = join("cross_entropy", device.name, N, V);
      const Result got = run_backward(device, logits, targets, V, 0.1f);
      compare_bits(what, run_forward(device, logits, targets, V), want_losses);
      compare_bits(what + " losses", got.losses, want.losses);
      compare_bits(what + " gradients", got.gradients, want.gradients);
    }
    for (const std::int64_t n : {std::int64_t{0}, N / 2, N - 1}) {
      const Result alone =
          run_backward(one, slice(logits, n * V, V), slice(targets, n, 1), V, 0.1f);
      compare_bits(join("row", n, "of", N, V), alone.gradients, slice(want.gradients, n * V, V));
    }
  }
}

TEST_CASE("finite differences agree with the gradient of cross_entropy") {
  for (const auto [N, V] : {cases::Rows{1, 1}, {3, 2}, {6, 9}}) {
    const Doubles logits = widened(normal(N * V, 47, 0.0, 2.0));
    const std::vector<std::int32_t> targets = some_targets(N, V);
    const std::vector<float> ones(static_cast<std::size_t>(N), 0.25f);
    compare_gradient(
        join("cross_entropy", N, V), reference::cross_entropy_gradients(logits, targets, 0.25),
        logits,
        [&](const Doubles& at) { return weighted(reference::cross_entropy(at, targets), ones); });
  }
}

#include <algorithm>
#include <cmath>

#include "kernels/reference/formulas.h"
#include "tests/support/cases.h"
#include "tests/support/catch.h"
#include "tests/support/compare.h"
#include "tests/support/data.h"
#include "tests/support/devices.h"
#include "tests/support/guarded.h"

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
                               std::int64_t shift = 0) {
  const auto N = static_cast<std::int64_t>(targets.size());
  Stage stage(device.device, join("cross_entropy", device.name, N, V), shift);
  Guarded& losses = stage.output({N});
  device.device.cross_entropy_forward({.losses = losses,
                                       .logits = stage.input(logits, {N, V}),
                                       .targets = stage.input(targets, {N})});
  return losses.floats();
}

Result run_backward(const TestDevice& device, const std::vector<float>& logits,
                    const std::vector<std::int32_t>& targets, std::int64_t V, float scale,
                    std::int64_t shift = 0) {
  const auto N = static_cast<std::int64_t>(targets.size());
  Stage stage(device.device, join("cross_entropy_backward", device.name, N, V), shift);
  Guarded& losses = stage.output({N});
  Guarded& both = stage.in_out(logits, {N, V});
  device.device.cross_entropy_backward({.losses = losses,
                                        .logits_to_grads = both,
                                        .targets = stage.input(targets, {N}),
                                        .scale = scale});
  return {losses.floats(), both.floats()};
}

void compare_with_formula(const TestDevice& device, const std::vector<float>& logits,
                          const std::vector<std::int32_t>& targets, std::int64_t V,
                          std::int64_t shift) {
  constexpr float kScale = 0.37f;
  const auto N = static_cast<std::int64_t>(targets.size());
  const Doubles want = reference::cross_entropy(widened(logits), targets);
  const Doubles want_gradients =
      reference::cross_entropy_gradients(widened(logits), targets, kScale);
  // The sum of V exponentials is off by V roundings and its terms by a few; its logarithm turns
  // that into an absolute error. Then come the roundings of the numbers that are added and
  // subtracted.
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
    }
  }
  const std::string what = join("cross_entropy", device.name, "N", N, "V", V);
  compare(what, run_forward(device, logits, targets, V, shift), want, of_loss);
  const Result got = run_backward(device, logits, targets, V, kScale, shift);
  compare(what + " losses", got.losses, want, of_loss);
  compare(what + " gradients", got.gradients, want_gradients, of_gradient);
}

}  // namespace

TEST_CASE("cross_entropy agrees with its formula, forward and backward") {
  for (const TestDevice& device : devices_under_test()) {
    std::int64_t shift = 0;
    for (const auto [N, V] : cases::kCrossEntropy) {
      for (const double deviation : {1.0, 12.0}) {
        compare_with_formula(device, normal(N * V, 42, 0.0, deviation), some_targets(N, V), V,
                             shift ^= 1);
      }
    }
  }
}

TEST_CASE("cross_entropy neither overflows nor underflows on large logits") {
  for (const TestDevice& device : devices_under_test()) {
    std::vector<float> logits = normal(4 * 33, 43);
    for (std::size_t i = 0; i < 33; ++i) {
      logits[i] += 2000.0f;
      logits[33 + i] -= 2000.0f;
      logits[66 + i] *= 3000.0f;  // all but one probability is zero
    }
    compare_with_formula(device, logits, {5, 32, 7, 0}, 33, 0);
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

TEST_CASE("cross_entropy names a target outside the vocabulary") {
  for (const TestDevice& device : devices_under_test()) {
    const std::vector<float> logits = normal(2 * 17, 45);
    const std::string wants = ", wants 0 to 16, or -100 to ignore it";
    CHECK(error_of([&] {
            run_forward(device, logits, {0, 17}, 17);
          }) == "cross_entropy: targets[1] is 17" + wants);
    CHECK(error_of([&] {
            run_backward(device, logits, {-1, 0}, 17, 1.0f);
          }) == "cross_entropy: targets[0] is -1" + wants);
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

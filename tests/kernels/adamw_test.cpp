#include <cmath>

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

/// Second moments: squares, so never negative, some of them zero.
std::vector<float> moments(std::int64_t count, std::uint64_t seed) {
  std::vector<float> v = normal(count, seed, 0.0, 0.1);
  for (std::size_t i = 0; i < v.size(); ++i) v[i] = i % 7 == 3 ? 0.0f : v[i] * v[i];
  return v;
}

struct State {
  std::vector<float> param, m, v;
};

/// One step over two tensors, the second without decay.
std::vector<State> run(const TestDevice& device, std::int64_t count, AdamwStep step,
                       const std::vector<State>& before, const std::vector<float>& grad) {
  Stage stage(device.device, join("adamw", device.name, count, "step", step.step), count % 2);
  std::vector<AdamwTensor> tensors;
  std::vector<std::array<Guarded*, 3>> buffers;
  for (const State& state : before) {
    Guarded& param = stage.in_out(state.param, {count});
    Guarded& m = stage.in_out(state.m, {count});
    Guarded& v = stage.in_out(state.v, {count});
    tensors.push_back({.param = param,
                       .grad = stage.input(grad, {count}),
                       .m = m,
                       .v = v,
                       .weight_decay = tensors.empty() ? 0.1f : 0.0f});
    buffers.push_back({&param, &m, &v});
  }
  step.tensors = tensors;
  device.device.adamw(step);
  std::vector<State> after;
  for (const auto& [param, m, v] : buffers) {
    after.push_back({param->floats(), m->floats(), v->floats()});
  }
  return after;
}

std::vector<State> states(std::int64_t count) {
  return {{normal(count, 51), normal(count, 52, 0.0, 0.1), moments(count, 53)},
          {normal(count, 54), normal(count, 55, 0.0, 0.1), moments(count, 56)}};
}

}  // namespace

TEST_CASE("adamw agrees with its formula") {
  for (const TestDevice& device : devices_under_test()) {
    for (const std::int64_t count : cases::kCounts) {
      for (const std::int64_t at : {1, 2, 1000}) {
        const AdamwStep step{.lr = 1e-3f, .beta2 = 0.95f, .step = at, .grad_scale = 0.5f};
        const std::vector<State> before = states(count);
        const std::vector<float> grad = normal(count, 57);
        const std::vector<State> after = run(device, count, step, before, grad);
        const double beta1 = step.beta1, beta2 = step.beta2, lr = step.lr;
        const double correction1 = 1.0 - std::pow(beta1, static_cast<double>(at));
        const double correction2 = std::sqrt(1.0 - std::pow(beta2, static_cast<double>(at)));
        for (std::size_t tensor = 0; tensor < 2; ++tensor) {
          const double decay = tensor == 0 ? 0.1f : 0.0f;
          const State& old = before[tensor];
          const std::size_t n = grad.size();
          Doubles m(n), v(n), p(n), of_m(n), of_v(n), of_p(n);
          for (std::size_t i = 0; i < n; ++i) {
            const double g = grad[i] * 0.5;
            m[i] = beta1 * old.m[i] + (1.0 - beta1) * g;
            v[i] = beta2 * old.v[i] + (1.0 - beta2) * g * g;
            of_m[i] = 4.0 * kEps * (std::abs(old.m[i]) + std::abs(g));
            of_v[i] = 4.0 * kEps * v[i];
            // The root halves v's relative error; eight more roundings make the quotient.
            const double step_per_m = lr / correction1 / (std::sqrt(v[i]) / correction2 + step.eps);
            p[i] = old.param[i] * (1.0 - lr * decay) - step_per_m * m[i];
            of_p[i] = 3.0 * kEps * std::abs(old.param[i]) +
                      step_per_m * (of_m[i] + 10.0 * kEps * std::abs(m[i]));
          }
          const std::string what =
              join("adamw", device.name, "count", count, "step", at, "tensor", tensor);
          compare(what + " m", after[tensor].m, m, of_m);
          compare(what + " v", after[tensor].v, v, of_v);
          compare(what + " param", after[tensor].param, p, of_p);
        }
      }
    }
  }
}

TEST_CASE(
    "the first step of adamw moves every parameter by the learning rate, against its gradient") {
  constexpr std::int64_t kCount = 33;
  for (const TestDevice& device : devices_under_test()) {
    const std::vector<float> zeros(kCount, 0.0f), grad = uniform(kCount, 58, 0.5f, 2.0f);
    const std::vector<State> before = {{zeros, zeros, zeros}};
    const std::vector<State> after =
        run(device, kCount, {.lr = 0.01f, .eps = 0.0f, .step = 1}, before, grad);
    compare("adamw " + device.name, after[0].param, Doubles(kCount, -static_cast<double>(0.01f)),
            Doubles(kCount, 16.0 * kEps * 0.01));
  }
}

TEST_CASE("adamw does not depend on the number of threads") {
  constexpr std::int64_t kCount = 70001;
  const AdamwStep step{.step = 3};
  const std::vector<float> grad = normal(kCount, 59);
  const std::vector<State> want =
      run(cpu_with_threads().front(), kCount, step, states(kCount), grad);
  for (const TestDevice& device : cpu_with_threads()) {
    const std::vector<State> got = run(device, kCount, step, states(kCount), grad);
    for (std::size_t tensor = 0; tensor < 2; ++tensor) {
      compare_bits("param " + device.name, got[tensor].param, want[tensor].param);
      compare_bits("m " + device.name, got[tensor].m, want[tensor].m);
      compare_bits("v " + device.name, got[tensor].v, want[tensor].v);
    }
  }
}

TEST_CASE("adamw writes the copy that products read, its params rounded to nearest") {
  for (const TestDevice& device : devices_under_test()) {
    for (const DType dtype : {DType::bf16, DType::f16}) {
      for (const std::int64_t count : cases::kCounts) {
        const AdamwStep plain{.lr = 1e-2f, .step = 3};
        const std::vector<float> grad = normal(count, 57);
        const std::vector<State> before = states(count);
        const std::vector<State> want = run(device, count, plain, before, grad);
        Stage stage(device.device, join("adamw copy", device.name, name_of(dtype), count),
                    count % 2);
        Guarded& param = stage.in_out(before[0].param, {count});
        Guarded& copy = stage.output({count}, dtype);
        const AdamwTensor tensors[] = {{.param = param,
                                        .grad = stage.input(grad, {count}),
                                        .m = stage.in_out(before[0].m, {count}),
                                        .v = stage.in_out(before[0].v, {count}),
                                        .weight_decay = 0.1f,
                                        .copy = copy}};
        AdamwStep step = plain;
        step.tensors = tensors;
        device.device.adamw(step);
        compare_bits(stage.what() + " param", param.floats(), want[0].param);
        compare_bits(stage.what(), copy.floats(), rounded_to(dtype, want[0].param));
      }
    }
  }
}

TEST_CASE("adamw names a param or a copy of the wrong type") {
  for (const TestDevice& device : devices_under_test()) {
    Stage stage(device.device, "adamw types " + device.name);
    const std::vector<float> ones(4, 1.0f);
    AdamwTensor tensor{.param = stage.in_out(ones, {4}, DType::bf16),
                       .grad = stage.input(ones, {4}),
                       .m = stage.in_out(ones, {4}),
                       .v = stage.in_out(ones, {4})};
    const auto message = [&] {
      return error_of([&] { device.device.adamw({.tensors = {&tensor, 1}}); });
    };
    CHECK(message() == "adamw: tensor 0: param is bfloat16, wants float32");
    tensor.param = stage.in_out(ones, {4}, DType::f16);
    CHECK(message() == "adamw: tensor 0: param is float16, wants float32");
    tensor.param = stage.in_out(ones, {4});
    tensor.copy = stage.in_out(ones, {4});
    CHECK(message() == "adamw: tensor 0: copy is float32, wants float16 or bfloat16");
  }
}

TEST_CASE("squared_norm sums the squares of all tensors, alike for any number of threads") {
  std::vector<TestDevice> devices = devices_under_test();
  for (const TestDevice& device : cpu_with_threads()) devices.push_back(device);
  for (const TestDevice& device : devices) {
    Stage stage(device.device, "squared_norm " + device.name, 1);
    std::vector<ConstView> tensors;
    double want = 0.0, count = 0.0;
    for (const std::int64_t size : cases::kCounts) {
      const std::vector<float> values = normal(size, 60, 0.0, 3.0);
      for (const float value : values) want += static_cast<double>(value) * value;
      count += static_cast<double>(size);
      tensors.push_back(stage.input(values, {size}));
    }
    const double got = device.device.squared_norm(tensors);
    CHECK(std::abs(got - want) <= count * kEps * want);
    CHECK(got == device.device.squared_norm(tensors));
    Stage aligned(device.device, "squared_norm aligned " + device.name);
    std::vector<ConstView> elsewhere;
    for (const std::int64_t size : cases::kCounts) {
      elsewhere.push_back(aligned.input(normal(size, 60, 0.0, 3.0), {size}));
    }
    CHECK(got == device.device.squared_norm(elsewhere));
    if (device.name.starts_with("cpu")) {
      Stage again(cpu_with_threads().front().device, "squared_norm again", 1);
      std::vector<ConstView> copies;
      for (const std::int64_t size : cases::kCounts) {
        copies.push_back(again.input(normal(size, 60, 0.0, 3.0), {size}));
      }
      CHECK(got == cpu_with_threads().front().device.squared_norm(copies));
    }
    CHECK(device.device.squared_norm({}) == 0.0);
  }
}

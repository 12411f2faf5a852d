// What ends a step: the optimizer and its norm, and sampling. All of it works in float.
#include <algorithm>
#include <array>

#include "verify/trial.h"

namespace quire::verify {
namespace {

void adamw(Bench& bench, DType copied) {
  constexpr std::int64_t kCounts[] = {1000, 33, 4096};
  Trial t(bench, "adamw",
          copied == DType::f32 ? "without copies" : fmt::format("copies in {}", name_of(copied)));
  std::vector<Tensor> params, grads, ms, vs, copies;
  std::uint64_t seed = 100;
  for (const std::int64_t count : kCounts) {
    params.push_back(t.input({count}, normal(count, ++seed)));
    grads.push_back(t.input({count}, normal(count, ++seed, 0.1f)));
    ms.push_back(t.input({count}, normal(count, ++seed, 0.01f)));
    vs.push_back(t.input({count}, uniform(count, ++seed, 1e-6f, 1e-2f)));
    copies.push_back(t.output({count}, copied));
  }
  std::vector<std::vector<float>> old;
  for (const auto* of : {&params, &ms}) {
    for (const Tensor& tensor : *of) old.push_back(t.host(tensor, Side::sizes));
  }
  t.forget();
  AdamwStep step{.lr = 1e-2f, .step = 7, .grad_scale = 0.5f};
  t.run([&](const Side& s) {
    std::vector<AdamwTensor> tensors;
    for (std::size_t i = 0; i < params.size(); ++i) {
      tensors.push_back({.param = params[i](s),
                         .grad = grads[i](s),
                         .m = ms[i](s),
                         .v = vs[i](s),
                         .weight_decay = 0.1f});
      // The trusted device has copies in float: the params themselves.
      if (copied != DType::f32 && s.kind == Side::tested) tensors.back().copy = copies[i](s);
    }
    step.tensors = tensors;
    s.device.adamw(step);
    s.device.synchronize();  // `tensors` goes out of scope
  });
  const double corrected = 1.0 - std::pow(0.9, 7.0);
  for (std::size_t n = 0; n < params.size(); ++n) {
    const auto of_m = [&, n](std::size_t i) {
      return 4.0 * kEps * (old[params.size() + n][i] + std::abs(t.want(grads[n], i)));
    };
    const auto of_param = [&, n](std::size_t i) {
      // Sixteen roundings of the step, and what its numerator is off by.
      const double root = std::sqrt(t.want(vs[n], i) / (1.0 - std::pow(0.999, 7.0))) + 1e-8;
      const double m = std::abs(t.want(ms[n], i));
      return 4.0 * kEps * (old[n][i] + std::abs(t.want(params[n], i))) +
             double{step.lr} / corrected / root * (of_m(i) + 32.0 * kEps * m);
    };
    t.compare(ms[n], of_m, "m");
    t.compare(
        vs[n], [&](std::size_t i) { return 8.0 * kEps * t.want(vs[n], i); }, "v");
    t.compare(params[n], of_param, "param");
    if (copied == DType::f32) continue;
    t.run_trusted([&](const Side& s) {
      s.device.copy(copies[n](s).bytes(), params[n](s).bytes(), params[n](s).size_bytes());
    });
    t.forget();
    t.compare(
        copies[n], [&](std::size_t i) { return stored(copied, t.want(copies[n], i), of_param(i)); },
        "copy");
  }
}

void squared_norm(Bench& bench) {
  Trial t(bench, "squared_norm", "three tensors");
  const std::array<Tensor, 3> tensors = {t.input({5000}), t.input({31}), t.input({257})};
  const Tensor sum = t.output({1});
  t.run([&](const Side& s) {
    const std::array<ConstView, 3> views = {tensors[0](s), tensors[1](s), tensors[2](s)};
    const auto value = static_cast<float>(s.device.squared_norm(views));
    s.device.copy_to_device(sum(s).bytes(), &value, sizeof value);
    s.device.synchronize();
  });
  t.compare(sum, [&](std::size_t) { return 2.0 * 5290.0 * kEps * t.want(sum, 0); });
}

void sampling(Bench& bench, std::int64_t B, std::int64_t V) {
  const std::string text = fmt::format("{} rows of {}", B, V);
  const std::vector<float> numbers = normal(B * V, 11, 3.0f);
  {
    Trial t(bench, "repetition_penalty", text);
    const Tensor logits = t.input({B, V}, numbers),
                 history = t.integers({B, 12}, integers(B * 12, 12, V)),
                 first = t.integers({B}, integers(B, 13, 5));
    t.run([&](const Side& s) {
      s.device.repetition_penalty(
          {.logits = logits(s), .history = history(s), .first = first(s), .penalty = 1.3f});
    });
    t.compare(logits, [&](std::size_t i) { return 2.0 * kEps * std::abs(t.want(logits, i)); });
  }
  const WarpLogits warps[] = {{.top_k = 20},
                              {.top_p = 0.8f},
                              {.min_p = 0.05f},
                              {.temperature = 0.7f, .top_k = 40, .top_p = 0.9f, .min_p = 0.01f}};
  for (WarpLogits warp : warps) {
    Trial t(bench, "warp_logits",
            fmt::format("{} temperature {:f} top_k {} top_p {:f} min_p {:f}", text,
                        warp.temperature, warp.top_k, warp.top_p, warp.min_p));
    const Tensor logits = t.input({B, V}, numbers);
    t.run([&](const Side& s) {
      warp.logits = logits(s);
      s.device.warp_logits(warp);
    });
    // What is dropped is the same.
    t.compare(logits, [&](std::size_t i) { return 2.0 * kEps * std::abs(t.want(logits, i)); });
  }
  {
    Trial t(bench, "draw_tokens", text);
    const Tensor tokens = t.output({B}, DType::i32), logits = t.input({B, V}, numbers),
                 uniforms = t.input({B}, uniform(B, 14, 0.0f, 1.0f));
    t.run([&](const Side& s) {
      s.device.draw_tokens({.tokens = tokens(s), .logits = logits(s), .uniforms = uniforms(s)});
    });
    t.compare(tokens, [](std::size_t) { return 0.0; });
  }
  Trial t(bench, "argmax_tokens", text);
  std::vector<float> ties = numbers;
  ties.front() = ties[static_cast<std::size_t>(V) - 1] = 100.0f;  // the lower index wins
  const Tensor tokens = t.output({B}, DType::i32), logits = t.input({B, V}, ties);
  t.run([&](const Side& s) { s.device.argmax_tokens({.tokens = tokens(s), .logits = logits(s)}); });
  t.compare(tokens, [](std::size_t) { return 0.0; });
}

}  // namespace

void verify_steps(Bench& bench) {
  for (const DType copied : types_of(bench.tested)) adamw(bench, copied);
  squared_norm(bench);
  sampling(bench, 3, 333);
  sampling(bench, 2, 50257);
}

}  // namespace quire::verify

// A small model from beginning to end: losses and gradients of a batch, and greedy tokens.
//
// A pass is a row of ops: each may be off by the roundings of its sums, n·eps of their size where
// they have n terms, and rounds its result once to the type of the activations. Sizes are those of
// what is compared: a loss, the largest element of a gradient, the largest logit.
#include <algorithm>
#include <memory>

#include "engine/model/elements.h"
#include "engine/model/gpt2.h"
#include "engine/model/kv_cache.h"
#include "verify/trial.h"

namespace quire::verify {
namespace {

constexpr int kLayers = 2;
constexpr int kForwardOps = 8 * kLayers + 3;  // that follow one another
constexpr int kRows = 2, kLength = 24, kPrompt = 9, kNew = 12;

Gpt2Config small_config() {
  Gpt2Config config;
  config.vocab_size = 203;
  config.n_positions = 32;
  config.n_embd = 64;
  config.n_layer = kLayers;
  config.n_head = 2;
  config.initializer_range = 0.15f;  // spreads the logits over some 5
  return config;
}

/// What `ops` in a row are off by on both devices, as a part of the size.
double relative(DType dtype, int ops) {
  const double terms = real(4 * small_config().n_embd);
  return ops * (2.0 * terms * kEps + 2.0 * half_ulp(dtype, 1.0));
}

void training(Bench& bench, DType dtype) {
  const Gpt2Config config = small_config();
  const std::vector<std::int32_t> ids = integers(kRows * kLength, 61, config.vocab_size),
                                  targets = integers(kRows * kLength, 62, config.vocab_size);
  const TokenBatch batch{.batch = kRows, .length = kLength, .ids = ids, .targets = targets};
  Trial losses(bench, "model: loss", "a batch", dtype);
  const Tensor loss = losses.output({1}, DType::f32);
  std::vector<std::string> names;
  std::vector<std::vector<float>> gradients[2];
  losses.run([&](const Side& s) {
    const Parameters parameters = initialize_parameters(s.device, config, 3);
    Gpt2Training pass(s.device, config, parameters,
                      {.batch = kRows,
                       .length = kLength,
                       .dropout = false,
                       .activations = s.kind == Side::tested ? dtype : DType::f32});
    const auto sum = static_cast<float>(
        pass.forward_backward(batch, 1.0f / static_cast<float>(kRows * kLength), 0));
    s.device.copy_to_device(loss(s).bytes(), &sum, sizeof sum);
    names.clear();
    for (const NamedParameter& parameter : pass.gradients().names())
      names.push_back(parameter.name);
    for (const View& gradient : pass.gradients().tensors()) {
      gradients[s.kind].push_back(to_host(s.device, gradient));
    }
  });
  losses.compare(loss,
                 [&](std::size_t) { return relative(dtype, kForwardOps) * losses.want(loss, 0); });

  Trial t(bench, "model: gradients", "a batch", dtype);
  for (std::size_t i = 0; i < names.size(); ++i) {
    const auto count = static_cast<std::int64_t>(gradients[Side::trusted][i].size());
    const Tensor gradient = t.output({count}, DType::f32);
    t.run([&](const Side& s) {
      s.device.copy_to_device(gradient(s).bytes(), gradients[s.kind][i].data(),
                              gradient(s).size_bytes());
    });
    const double bound = relative(dtype, 2 * kForwardOps) * largest(gradients[Side::trusted][i]);
    t.compare(
        gradient, [&](std::size_t) { return bound; }, names[i]);
  }
}

/// Parameters with matrices of type `dtype`, the same numbers on both devices.
/// `masters` must outlive it.
Parameters narrowed(Device& device, const Gpt2Config& config, const Parameters& masters,
                    DType dtype) {
  Parameters narrow = Parameters::with_matrices(device, config, masters, dtype);
  for (std::size_t i = 0; i < narrow.tensors().size(); ++i) {
    if (const View& to = narrow.tensors()[i]) {
      upload(device, download(device, masters.tensors()[i]), to);
    }
  }
  return narrow;
}

/// Both are fed what the trusted device chose. The tokens agree unless the two best logits are
/// within what both may be off by.
void decoding(Bench& bench, DType dtype) {
  const Gpt2Config config = small_config();
  Trial t(bench, "model: greedy tokens", "two rows", dtype);
  const std::vector<std::int32_t> prompts = integers(kRows * kPrompt, 63, config.vocab_size);
  const std::size_t V = static_cast<std::size_t>(config.vocab_size);
  struct Model {
    Parameters masters, parameters;
    Gpt2Decoder decoder;
    Model(Device& device, const Gpt2Config& of, DType weights)
        : masters(initialize_parameters(device, of, 5)),
          parameters(narrowed(device, of, masters, weights)),
          decoder(device, of, parameters, kRows, kPrompt + kNew, kPrompt) {}
  };
  std::unique_ptr<Model> models[2];
  t.run([&](const Side& s) { models[s.kind] = std::make_unique<Model>(s.device, config, dtype); });
  std::vector<std::int32_t> next = prompts;
  for (int step = 0; step < kNew; ++step) {
    const Tensor logits = t.output({kRows, config.vocab_size}, DType::f32),
                 tokens = t.output({kRows}, DType::i32);
    t.run([&](const Side& s) {
      const View all = models[s.kind]->decoder.forward(kRows, next);
      for (int row = 0; row < kRows; ++row) {
        const View one = all.rows(row, 1);
        s.device.copy(logits(s).rows(row, 1).bytes(), one.bytes(), V * sizeof(float));
      }
      s.device.argmax_tokens({.tokens = tokens(s), .logits = logits(s)});
    });
    const std::vector<float> want = t.host(logits, Side::trusted);
    const double bound = relative(dtype, kForwardOps) * largest(want);
    t.compare(
        logits, [&](std::size_t) { return bound; }, fmt::format("logits of step {}", step));
    next.clear();
    for (std::size_t row = 0; row < kRows; ++row) {
      next.push_back(static_cast<std::int32_t>(t.want(tokens, row)));
      std::vector<float> scores(want.begin() + row * V, want.begin() + (row + 1) * V);
      std::partial_sort(scores.begin(), scores.begin() + 2, scores.end(), std::greater<>());
      const bool close = scores[0] - scores[1] <= 2.0 * bound;
      t.compare(
          tokens, [&](std::size_t) { return close ? real(config.vocab_size) : 0.0; },
          fmt::format("step {}", step), row, 1);
    }
  }
}

}  // namespace

void verify_model(Bench& bench) {
  for (const DType dtype : types_of(bench.tested)) {
    if (dtype != DType::f16) training(bench, dtype);  // which trains in no other
    decoding(bench, dtype);
  }
}

std::vector<Finding> compare_devices(Device& tested, Device& trusted,
                                     const std::function<void(const std::string&)>& starts) {
  Bench bench{.tested = tested, .trusted = trusted, .starts = starts};
  verify_rows(bench);
  verify_products(bench);
  verify_attention(bench);
  verify_steps(bench);
  verify_model(bench);
  return std::move(bench.findings);
}

}  // namespace quire::verify

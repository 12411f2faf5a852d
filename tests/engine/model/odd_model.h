// A model of awkward sizes and random batches for it: what tests
// of training against itself work on.
#pragma once

#include "tests/engine/model/model_case.h"

namespace quire::test {

/// A config with the awkward sizes: head size 5, an MLP of 31, a vocabulary of 53.
inline Gpt2Config odd_config() {
  Gpt2Config config;
  config.vocab_size = 53;
  config.n_positions = 24;
  config.n_embd = 15;
  config.n_layer = 3;
  config.n_head = 3;
  config.n_inner = 31;
  config.initializer_range = 0.2f;
  return config;
}

struct RandomBatch {
  std::vector<std::int32_t> ids, targets;
  int batch, length;

  RandomBatch(int rows, int columns, int vocabulary, std::uint64_t seed = 7)
      : batch(rows), length(columns) {
    const std::size_t count = static_cast<std::size_t>(rows) * static_cast<std::size_t>(columns);
    const auto draw = [&](std::uint64_t i) {
      const auto limit = static_cast<std::uint32_t>(vocabulary);
      return static_cast<std::int32_t>(random_bits({.seed = seed, .stream = 0}, i) % limit);
    };
    for (std::size_t i = 0; i < count; ++i) {
      ids.push_back(draw(2 * i));
      targets.push_back(i % 5 == 3 ? kIgnoredTarget : draw(2 * i + 1));
    }
  }
  TokenBatch view() const {
    return {.batch = batch, .length = length, .ids = ids, .targets = targets};
  }
  TokenBatch rows(int first, int count) const {
    const auto begin = static_cast<std::size_t>(first) * static_cast<std::size_t>(length);
    const auto size = static_cast<std::size_t>(count) * static_cast<std::size_t>(length);
    return {.batch = count,
            .length = length,
            .ids = std::span<const std::int32_t>(ids).subspan(begin, size),
            .targets = std::span<const std::int32_t>(targets).subspan(begin, size)};
  }
};

/// All gradients one after the other.
inline std::vector<float> all_gradients(Device& device, const Gpt2Training& training) {
  std::vector<float> all;
  for (const View& tensor : training.gradients().tensors()) {
    if (!tensor) continue;
    const std::vector<float> values = to_host(device, tensor);
    all.insert(all.end(), values.begin(), values.end());
  }
  return all;
}

}  // namespace quire::test

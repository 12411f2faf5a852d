// A GPT-2 small enough to generate with on the reference device, with weights large enough that its
// choices are spread out.
#pragma once

#include <memory>
#include <vector>

#include "engine/model/parameters.h"
#include "kernels/open_device.h"
#include "kernels/reference/reference_device.h"

namespace quire::test {

inline const Gpt2Config& tiny_config() {
  static const Gpt2Config kConfig = [] {
    Gpt2Config config;
    config.vocab_size = 61;
    config.n_positions = 24;
    config.n_embd = 20;
    config.n_layer = 2;
    config.n_head = 2;
    config.initializer_range = 0.5f;
    config.bos_token_id.reset();
    config.eos_token_id.reset();
    return config;
  }();
  return kConfig;
}

struct TinyModel {
  explicit TinyModel(std::unique_ptr<Device> opened)
      : config(tiny_config()),
        device(std::move(opened)),
        parameters(initialize_parameters(*device, config, 7)) {}
  Gpt2Config config;
  std::unique_ptr<Device> device;
  Parameters parameters;
};

inline std::unique_ptr<Device> cpu_with_threads(int threads) {
  DeviceOptions options;
  options.threads = threads;
  return open_device("cpu", options);
}

/// Prompts of different lengths for the tiny model.
inline std::vector<std::vector<std::int32_t>> tiny_prompts() {
  return {{3}, {10, 20, 30, 40, 50, 60, 1}, {5, 5}, {9, 8, 7, 6}, {0, 60, 0, 60}};
}

}  // namespace quire::test

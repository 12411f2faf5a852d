#include "engine/model/gpt2.h"

#include <algorithm>

#include "base/error.h"
#include "engine/model/elements.h"
#include "engine/model/forward.h"

namespace quire {

HeadLayout head_layout(const Device& device, const Gpt2Config& config, DType dtype) {
  HeadLayout head{.rows = device.head_rows(), .vocab_multiple = device.vocab_multiple()};
  const std::optional<DeviceMemory> memory = device.memory();
  const std::size_t row_bytes = round_up(config.vocab_size, head.vocab_multiple) * size_of(dtype);
  while (memory && head.rows > HeadLayout{}.rows && head.rows * row_bytes > memory->total / 32) {
    head.rows /= 2;
  }
  return head;
}

struct Gpt2::Impl {
  Device& device;
  Gpt2Config config;
  const Parameters& parameters;
  Keep keep;
  Multiply precision;
  Arena arena;
  Activations a;

  /// Lays out the batch, in a larger arena where the one at hand is too small, and uploads it.
  Pass begin(const TokenBatch& batch) {
    check_batch(config, batch);
    const DType dtype = device.activation_type(parameters.table().dtype());
    Arena count;
    take_activations(count, config, batch.batch, batch.length, keep, dtype);
    if (count.taken() > arena.capacity()) {
      arena = Arena();  // the old memory goes before the new comes
      arena = Arena(device, count.taken());
    }
    arena.restart();
    a = take_activations(arena, config, batch.batch, batch.length, keep, dtype);
    upload(device, batch, a);
    return {.device = device,
            .config = config,
            .parameters = parameters,
            .a = a,
            .precision = precision};
  }
};

Gpt2::Gpt2(Device& device, const Gpt2Config& config, const Parameters& parameters)
    : impl_(new Impl{device,
                     config,
                     parameters,
                     {.head = head_layout(device, config, DType::f32)},
                     inference_precision(device, config, parameters),
                     {},
                     {}}) {
  config.check();
}
Gpt2::Gpt2(Gpt2&&) noexcept = default;
Gpt2::~Gpt2() = default;

std::vector<float> Gpt2::logits(const TokenBatch& batch, HiddenStates* hidden) {
  const Pass pass = impl_->begin(batch);
  forward_hidden(pass, hidden);
  const std::int64_t V = impl_->config.vocab_size;
  std::vector<float> all(pass.a.tokens() * V);  // [N, V]
  for_each_chunk(pass.a, [&](RowRange rows) {
    const View logits = forward_logits(pass, rows);  // [R, W]
    const std::int64_t W = logits.shape()[1];
    float* const to = all.data() + rows.first * V;
    if (W == V) return pass.device.copy_to_host(to, logits.bytes(), logits.size_bytes());
    std::vector<float> chunk(logits.count());
    pass.device.copy_to_host(chunk.data(), logits.bytes(), logits.size_bytes());
    for (std::int64_t r = 0; r < rows.count; ++r) {
      std::copy_n(chunk.data() + r * W, V, to + r * V);
    }
  });
  return all;
}

std::vector<float> Gpt2::token_losses(const TokenBatch& batch) {
  if (batch.targets.empty()) throw Error(Fault::internal, "token_losses: the batch has no targets");
  const Pass pass = impl_->begin(batch);
  forward_hidden(pass);
  forward_losses(pass);
  return download(pass.device, pass.a.losses);
}

std::vector<MemoryItem> Gpt2::memory_plan(const Gpt2Config& config, int batch, int length,
                                          DType activations, const HeadLayout& head) {
  Arena count;
  take_activations(count, config, batch, length, {.head = head}, activations);
  return count.plan();
}

}  // namespace quire

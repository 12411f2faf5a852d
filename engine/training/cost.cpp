#include "engine/training/cost.h"

#include <algorithm>

#include "engine/model/gpt2.h"
#include "engine/training/optimizer.h"

namespace quire {

std::vector<MemoryItem> training_memory_plan(const Gpt2Config& model, const TrainingConfig& config,
                                             const Device& device) {
  const TrainingConfig resolved = with_block_size(config, model);
  const LoraConfig lora = adapter_of(resolved, model);
  const DType activations = device.activation_type(resolved.activations());
  const HeadLayout head = head_layout(device, model, activations);
  std::vector<MemoryItem> plan =
      Gpt2Training::memory_plan(model, {.batch = resolved.per_device_train_batch_size,
                                        .length = resolved.block_size,
                                        .activations = activations,
                                        .frozen_layers = resolved.freeze_layers,
                                        .gradient_checkpointing = resolved.gradient_checkpointing,
                                        .keep_outputs = resolved.keep_outputs,
                                        .head = head,
                                        .lora = lora,
                                        .gradient_parts = resolved.ranks});
  const auto bytes_of = [&](const std::vector<NamedParameter>& list, const ParameterSet& which) {
    std::size_t bytes = 0;
    for (std::size_t i = 0; i < list.size(); ++i) {
      if (!which.empty() && !which[i]) continue;
      const Shape shape = padded_shape(list[i], head.vocab_multiple);
      bytes += static_cast<std::size_t>(shape.count()) * sizeof(float);
    }
    return bytes;
  };
  const std::vector<NamedParameter> list = parameter_list(model);
  plan.push_back({"parameters", bytes_of(list, {})});
  std::size_t trained = bytes_of(list, trainable_parameters(model, resolved.freeze_layers));
  if (lora.r > 0) {
    trained = bytes_of(adapter_list(model, lora), {});
    plan.push_back({"adapter", trained});
  }
  plan.push_back({"AdamW moments", AdamwOptimizer::bytes(trained, resolved.ranks, resolved.zero)});
  std::stable_sort(plan.begin(), plan.end(),
                   [](const MemoryItem& a, const MemoryItem& b) { return a.bytes > b.bytes; });
  return plan;
}

bool keeps_outputs(const Gpt2Config& model, TrainingConfig config, const Device& device,
                   std::int64_t available) {
  // On a CPU 12 activations (0.19 ms) and 24 layernorms (0.07 ms) of 256 tokens are less than 1% of
  // GPT-2's step, and cost 57 MB.
  if (device.shares_host_memory() || config.gradient_checkpointing) return false;
  config.keep_outputs = true;
  std::int64_t bytes = 0;
  for (const MemoryItem& item : training_memory_plan(model, config, device)) {
    bytes += static_cast<std::int64_t>(item.bytes);
  }
  return bytes <= available;
}

double training_flops(const Gpt2Config& model, std::int64_t tokens, int length) {
  return training_flops(model, TrainingConfig{}, tokens, length);
}

double training_flops(const Gpt2Config& model, const TrainingConfig& config, std::int64_t tokens,
                      int length) {
  const double C = model.n_embd, head = C * model.vocab_size;
  double multiplied = static_cast<double>(model.parameter_count()) - C * model.n_positions;
  if (!model.tie_word_embeddings) multiplied -= head;  // looked up, not multiplied
  const LoraConfig lora = adapter_of(config, model);
  const int first = lora.r > 0 ? first_adapted_layer(model, lora) : config.freeze_layers;
  const double below = static_cast<double>(first) / model.n_layer;
  const double of_blocks = multiplied - head, attention = model.n_layer * C * length;
  // Forward, then gradients of inputs, then gradients of weights.
  double flops = 2 * multiplied + 2 * attention;
  flops += 2 * (multiplied - below * of_blocks) + (1 - below) * 4 * attention;
  if (lora.r == 0) {
    const bool head_trains = config.freeze_layers == 0 || !model.tie_word_embeddings;
    flops += 2 * ((1 - below) * of_blocks + (head_trains ? head : 0));
  } else {
    for (const NamedParameter& factor : adapter_list(model, lora)) {
      flops += 6.0 * static_cast<double>(factor.shape.count());
    }
  }
  return static_cast<double>(tokens) * flops;
}

}  // namespace quire

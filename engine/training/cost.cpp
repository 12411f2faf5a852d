#include "engine/training/cost.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <vector>

#include "engine/model/elements.h"
#include "engine/training/optimizer.h"

namespace quire {

TrainingOptions network_options(const TrainingConfig& config, int length) {
  return {.batch = config.per_device_train_batch_size,
          .length = length,
          .activations = config.activations(),
          .frozen_layers = config.freeze_layers,
          .gradient_checkpointing = config.gradient_checkpointing,
          .keep_outputs = config.keep_outputs,
          .accumulates = config.gradient_accumulation_steps > 1,
          .gradient_parts = config.ranks};
}

std::vector<MemoryItem> training_memory_plan(const Gpt2Config& model, const TrainingConfig& config,
                                             const Device& device) {
  const TrainingConfig resolved = with_block_size(config, model);
  const LoraConfig lora = adapter_of(resolved, model);
  TrainingOptions options = network_options(resolved, resolved.block_size);
  options.activations = device.activation_type(options.activations);
  options.lora = lora;
  const HeadLayout head = options.head = head_layout(device, model, options.activations);
  std::vector<MemoryItem> plan = Gpt2Training::memory_plan(model, options);
  const auto unpadded_bytes = [&](const std::vector<NamedParameter>& list,
                                  const ParameterSet& which) {
    std::size_t bytes = 0;
    for (std::size_t i = 0; i < list.size(); ++i) {
      if (!which.empty() && !which[i]) continue;
      const Shape shape = padded_shape(list[i], head.vocab_multiple);
      bytes += shape.count() * sizeof(float);
    }
    return bytes;
  };
  const std::vector<NamedParameter> list = parameter_list(model);
  plan.push_back({"parameters", unpadded_bytes(list, {})});
  std::size_t trained = unpadded_bytes(list, trainable_parameters(model, resolved.freeze_layers));
  if (lora.r > 0) {
    trained = unpadded_bytes(adapter_list(model, lora), {});
    plan.push_back({"adapter", trained});
  }
  plan.push_back({"AdamW moments", AdamwOptimizer::bytes(trained, resolved.ranks, resolved.zero)});
  sort_by_size(plan);
  return plan;
}

bool keeps_outputs(const Gpt2Config& model, TrainingConfig config, const Device& device,
                   std::int64_t available) {
  // On a CPU 12 activations (0.19 ms) and 24 layernorms (0.07 ms) of 256 tokens are less than 1% of
  // GPT-2's step, and cost 57 MB.
  if (device.shares_host_memory() || config.gradient_checkpointing) return false;
  config.keep_outputs = true;
  return bytes_of(training_memory_plan(model, config, device)) <= available;
}

double training_flops(const Gpt2Config& model, std::int64_t tokens, int length,
                      const TrainingConfig& config) {
  const double C = model.n_embd, head = C * model.vocab_size;
  double multiplied = model.parameter_count() - C * model.n_positions;
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
      flops += 6.0 * factor.shape.count();
    }
  }
  return tokens * flops;
}

ProductType product_type(const Device& device, DType dtype) {
  const DType operands = device.activation_type(dtype);
  const bool rounds = dtype == DType::bf16 && operands == DType::f32;
  return {.operands = operands,
          .multiply =
              rounds && device.why_not_in_bf16().empty() ? Multiply::in_bf16 : Multiply::as_stored};
}

double measure_matmul(Device& device, DType dtype, double seconds) {
  using Clock = std::chrono::steady_clock;
  constexpr std::int64_t M = 256, K = 768, N = 3072;
  const ProductType type = product_type(device, dtype);
  std::vector<float> noise(K * N);
  for (std::size_t i = 0; i < noise.size(); ++i) noise[i] = random_uniform({1, 2}, i) - 0.5f;
  const std::size_t bytes = size_of(type.operands);
  std::vector<std::byte> stored(noise.size() * bytes);
  write_elements(noise, type.operands, stored.data());
  const Buffer x(device, M * K * bytes), weight(device, K * N * bytes), out(device, M * N * bytes);
  device.copy_to_device(x.data(), stored.data(), x.size());
  device.copy_to_device(weight.data(), stored.data(), weight.size());
  const MatmulForward product{
      .out = View(out.data(), type.operands, {M, N}),
      .x = ConstView(x.data(), type.operands, {M, K}),
      .weight = {ConstView(weight.data(), type.operands, {K, N}), WeightLayout::in_out},
      .multiply = type.multiply};
  const auto run = [&] {
    const auto begin = Clock::now();
    device.matmul_forward(product);
    device.synchronize();
    return std::chrono::duration<double>(Clock::now() - begin).count();
  };
  run();
  double fastest = INFINITY;
  const auto start = Clock::now();
  for (int runs = 0; runs < 3 || Clock::now() - start < std::chrono::duration<double>(seconds);
       ++runs) {
    fastest = std::min(fastest, run());
  }
  return 2.0 * M * K * N / fastest;
}

}  // namespace quire

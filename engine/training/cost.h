// What a run takes, before it begins: memory and arithmetic; and how fast a device computes.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/model/arena.h"
#include "engine/model/gpt2.h"
#include "engine/training/training_config.h"
#include "kernels/device.h"

namespace quire {

/// What a run asks of its Gpt2Training, for rows of up to `length` tokens.
TrainingOptions network_options(const TrainingConfig& config, int length);

/// Everything train() keeps in memory at once, largest first: parameters, gradients, moments and
/// activations, these as the device keeps them.
std::vector<MemoryItem> training_memory_plan(const Gpt2Config& model, const TrainingConfig& config,
                                             const Device& device);

/// Whether a run with TrainingConfig::keep_outputs is faster on that device, and its plan within
/// `available` bytes.
bool keeps_outputs(const Gpt2Config& model, TrainingConfig config, const Device& device,
                   std::int64_t available);

/// Floating-point operations of forward and backward for `tokens` tokens in rows of `length`:
/// 6 a token and parameter that is multiplied with, and 6·L·C·length a token for causal attention
/// (half of the square is computed). Of these what a run's config leaves: no gradients of weights
/// that do not train, and none at all below the lowest block that does; an adapter's own products.
/// What gradient checkpointing computes again does not count.
double training_flops(const Gpt2Config& model, std::int64_t tokens, int length,
                      const TrainingConfig& config = {});

/// What "products in `dtype`" are on a device: of operands of that type where it keeps activations
/// in it, of float ones that are rounded where it can do that, of float ones where it cannot.
struct ProductType {
  DType operands = DType::f32;
  Multiply multiply = Multiply::as_stored;
};
ProductType product_type(const Device& device, DType dtype);

/// What a run's MFU is held against: flops a second of the device's own product at a shape of GPT-2's, [256, 768]·[768, 3072]: the
/// best of those that fit into `seconds`, and of three at least.
double measure_matmul(Device& device, DType dtype = DType::f32, double seconds = 0.4);

}  // namespace quire

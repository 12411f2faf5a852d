// Low-rank adapters: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models" (2021).
//
// An adapted product has two thin matrices beside its weight, which stays as it is:
//   y = x·W + b + scale·dropout(x)·Aᵀ·Bᵀ,   A [r, K], B [N, r], scale = alpha/r
// A is drawn, B starts at zero, so that an adapter changes nothing before its first step. Both lie
// in memory as PEFT's files have them, and carry PEFT's names.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "engine/model/config.h"
#include "engine/model/parameters.h"
#include "kernels/device.h"

namespace quire {

/// Names and defaults are those of PEFT's LoraConfig; a rank of 0 stands for "no adapter".
struct LoraConfig {
  int r = 0;
  float lora_alpha = 8.0f;
  float lora_dropout = 0.0f;
  bool use_rslora = false;  ///< scale = alpha/sqrt(r): Kalajdzievski (2023)
  /// The products whose name ends in one of these, dot by dot: "c_proj" is both of a block's,
  /// "attn.c_proj" the attention's.
  std::vector<std::string> target_modules = {"c_attn"};
  std::vector<int> layers_to_transform;  ///< the blocks that are adapted; empty: all

  float scale() const;
};

bool is_adapted(const LoraConfig& lora, int layer, Role product);
/// The lowest block with an adapted product; n_layer where there is none.
int first_adapted_layer(const Gpt2Config& config, const LoraConfig& lora);

/// A of every adapted product, each followed by its B, from the first block to the last. Throws
/// Error(usage) for a target that no product's name ends in, a block that is not there, or a rank,
/// alpha or dropout that makes no sense.
std::vector<NamedParameter> adapter_list(const Gpt2Config& config, const LoraConfig& lora);

/// An adapter in f32, or gradients or moments of one. Move-only.
class LoraAdapter : public NamedTensors {
 public:
  /// Uninitialised, in memory that divides into `parts`.
  LoraAdapter(Device& device, const Gpt2Config& config, const LoraConfig& lora, int parts = 1);

  /// Both views are empty where a product is not adapted.
  struct Pair {
    WritableWeight a;  // [r, K]
    WritableWeight b;  // [N, r]
  };
  const Pair& pair(int layer, Role product) const { return pairs_[layer][product]; }
  const LoraConfig& config() const { return lora_; }

 private:
  LoraConfig lora_;
  std::vector<ByRole<Pair>> pairs_;  // [L]
};

/// A tensor in host memory, in float.
struct HostTensor {
  std::vector<float> values;
  Shape shape;
};
HostTensor on_host(Device& device, const ConstView& tensor);
HostTensor transposed(const HostTensor& matrix);
/// weight [M, N] += scale·B·A for B [M, r] and A [r, N], a row at a time.
void add_product(HostTensor& weight, const HostTensor& b, const HostTensor& a, float scale);

/// A fresh adapter as PEFT draws it: A uniform within ±1/sqrt(K), B zero.
LoraAdapter initialize_adapter(Device& device, const Gpt2Config& config, const LoraConfig& lora,
                               std::uint64_t seed);

/// The model's parameters with W + scale·Aᵀ·Bᵀ for every adapted W, in W's type and in memory of
/// their own; all else is shared with `base`, which the result keeps alive. Sums run in float.
Parameters merge_adapter(Device& device, const Gpt2Config& config,
                         std::shared_ptr<const Parameters> base, const LoraAdapter& adapter);

}  // namespace quire

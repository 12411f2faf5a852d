// A block's products with their adapters, forward and backward.
#pragma once

#include "engine/model/forward.h"
#include "engine/model/lora.h"

namespace quire {

/// The pair of a product; null where it is not adapted.
const LoraAdapter::Pair* adapter_pair(const LoraAdapter* adapter, int layer, BlockProduct product);

/// lora_h = scale·dropout(x)·Aᵀ, which the backward pass reads, where the product is adapted.
void adapter_hidden(const Pass& pass, int layer, BlockProduct product, View x);

/// The same, and out += lora_h·Bᵀ.
void add_adapter(const Pass& pass, int layer, BlockProduct product, View x, View out);

/// Where the gradients of a pass go. Views are empty for what does not train.
struct Gradients {
  const Parameters& parameters;
  const LoraAdapter* adapter;  ///< or null
};

/// What the backward pass of out = x·weight + bias, with or without an adapter, reads and writes.
struct ProductBackward {
  View d_x;               // [N, K], overwritten; empty where nothing before the product trains
  View d_out;             // [N, M]
  View x;                 // [N, K]; may be empty where neither weight nor adapter train
  View weight;            // [K, M]
  View d_weight, d_bias;  // added to, or empty
  View pre_activation;    // as in MatmulBackwardInput
  Activation activation = Activation::none;
};

/// The gradients of weight and bias, of the adapter, and of x, for those that are asked for.
void backward_product(const Pass& pass, const Gradients& gradients, int layer, BlockProduct product,
                      const ProductBackward& p);

}  // namespace quire

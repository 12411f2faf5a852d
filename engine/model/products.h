// A block's products with bias, adapter and precision, forward and backward.
#pragma once

#include "engine/model/forward.h"
#include "engine/model/lora.h"

namespace quire {

/// out = activation(x·weight + bias, and the adapter's share), for a role's weight and bias.
struct Projection {
  View x;               // [N, K]
  View out;             // [N, M]
  View pre_activation;  // [N, M], or empty where nobody reads it
  Activation activation = Activation::none;
  /// What comes first where its sum is not empty: x is its output, and holds it afterwards only
  /// where a mean is asked for.
  ResidualLayernormForward before = {};
};
void project(const Pass& pass, int layer, Role product, const Projection& p);

/// The pair of a product; null where it is not adapted.
const LoraAdapter::Pair* adapter_pair(const LoraAdapter* adapter, int layer, Role product);

/// lora_h = scale·dropout(x)·Aᵀ, which the backward pass reads, where the product is adapted.
void adapter_hidden(const Pass& pass, int layer, Role product, View x);

/// Where the gradients of a pass go. Views are empty for what does not train.
struct Gradients {
  const ParameterGradients& parameters;
  const LoraAdapter* adapter;  ///< or null
};

/// What the backward pass of a projection reads and writes.
struct ProductBackward {
  View d_x;             // [N, K], overwritten where something before the product trains
  View d_out;           // [N, M]
  View x;               // [N, K]; may be empty where neither weight nor adapter train
  View pre_activation;  // as in MatmulBackwardInput
  Activation activation = Activation::none;
};

/// The gradients of weight and bias and of the adapter, of those that train, and that of x where
/// something before the product trains, so that the gradient has to go on: it then returns true.
bool backward_product(const Pass& pass, const Gradients& gradients, int layer, Role product,
                      const ProductBackward& p);

}  // namespace quire

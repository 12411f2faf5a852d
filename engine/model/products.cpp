// Beside a product of 2·N·K·M flops, an adapter of rank r takes 2·N·r·(K + M) more forward and
// twice that backward: with r = 8 and C = 768 about 1.4 %. What it saves is the gradient of the
// weight, a third of a training step.
#include "engine/model/products.h"

#include <algorithm>

namespace quire {
namespace {

/// dropout(x): x itself where nothing drops. The numbers of a stream are counted, so the backward
/// pass finds the same elements dropped.
View dropped(const Pass& pass, const DropoutSites::Site& site, View x) {
  if (site.p == 0.0f) return x;
  const View out(pass.a.lora_x.bytes(), x.dtype(), x.shape());
  pass.device.dropout({.out = out, .x = x, .p = site.p, .key = site.key});
  return out;
}

View hidden_of(const Pass& pass, int layer, Role product) {
  return pass.a.layers[layer].lora_h[product];
}

/// Gradients of A and B; leaves that of h = scale·dropout(x)·Aᵀ in a.d_lora_h.
void backward_factors(const Pass& pass, const LoraAdapter::Pair& d, int layer, Role product,
                      const LoraAdapter::Pair& pair, const ProductBackward& p) {
  Device& device = pass.device;
  const View d_h = pass.a.d_lora_h;                                                        // [N, r]
  pass.multiply(&Device::matmul_backward_weight, {.d_weight = AccumulateWeight{d.b},       // [M, r]
                                                  .d_out = p.d_out,                        // [N, M]
                                                  .x = hidden_of(pass, layer, product)});  // [N, r]
  device.fill_zero(d_h.bytes(), d_h.size_bytes());
  pass.multiply(&Device::matmul_add, {.out = Accumulate{d_h},
                                      .x = p.d_out,
                                      .weight = Weight(pair.b).transposed(),
                                      .scale = pass.adapter->config().scale()});
  pass.multiply(&Device::matmul_backward_weight,
                {.d_weight = AccumulateWeight{d.a},  // [r, K]
                 .d_out = d_h,
                 .x = dropped(pass, pass.dropout.adapter(layer, product), p.x)});  // [N, K]
}

/// d_x = d_out·Wᵀ + dropout'(d_h·A)
void backward_input(const Pass& pass, int layer, Role product, const LoraAdapter::Pair& pair,
                    const ProductBackward& p) {
  Device& device = pass.device;
  const View d_h = pass.a.d_lora_h;  // [N, r]
  const Weight weight = pass.parameters.matrix(layer, product);
  const DropoutSites::Site site = pass.dropout.adapter(layer, product);
  if (site.p == 0.0f) {
    pass.multiply(&Device::matmul_backward_input,
                  {.d_x = p.d_x, .d_out = p.d_out, .weight = weight});
    pass.multiply(&Device::matmul_add,
                  {.out = Accumulate{p.d_x}, .x = d_h, .weight = Weight(pair.a).transposed()});
    return;
  }
  // The adapter's share first, as it alone is dropped; then the weight's on top of it.
  pass.multiply(&Device::matmul_backward_input, {.d_x = p.d_x, .d_out = d_h, .weight = pair.a});
  device.dropout({.out = p.d_x, .x = p.d_x, .p = site.p, .key = site.key});
  pass.multiply(&Device::matmul_add,
                {.out = Accumulate{p.d_x}, .x = p.d_out, .weight = weight.transposed()});
}

/// As so many rows are multiplied by it fastest.
Weight weight_of(const Pass& pass, int layer, Role product, std::int64_t rows) {
  if (!pass.transposed.empty() && pass.device.prefers_out_in(rows)) {
    return pass.transposed[layer][product];
  }
  return pass.cache != nullptr ? pass.parameters.decoding_matrix(layer, product)
                               : pass.parameters.matrix(layer, product);
}

/// Blocks train as a whole or by their adapters alone.
bool goes_on(const Pass& pass, const Gradients& gradients, int layer, Role product) {
  if (layer > pass.first_layer || gradients.parameters.layer(layer)[Role::ln_1].weight) return true;
  return std::ranges::any_of(kProducts, [&](Role before) {
    return before < product && adapter_pair(pass.adapter, layer, before) != nullptr;
  });
}

}  // namespace

const LoraAdapter::Pair* adapter_pair(const LoraAdapter* adapter, int layer, Role product) {
  if (adapter == nullptr) return nullptr;
  const LoraAdapter::Pair& pair = adapter->pair(layer, product);
  return pair.a ? &pair : nullptr;
}

void adapter_hidden(const Pass& pass, int layer, Role product, View x) {
  const LoraAdapter::Pair* pair = adapter_pair(pass.adapter, layer, product);
  if (pair == nullptr) return;
  Device& device = pass.device;
  const View h = hidden_of(pass, layer, product);  // [N, r]
  device.fill_zero(h.bytes(), h.size_bytes());
  pass.multiply(&Device::matmul_add,
                {.out = Accumulate{h},
                 .x = dropped(pass, pass.dropout.adapter(layer, product), x),  // [N, K]
                 .weight = pair->a,
                 .scale = pass.adapter->config().scale()});
}

void project(const Pass& pass, int layer, Role product, const Projection& p) {
  Device& device = pass.device;
  const LoraAdapter::Pair* pair = adapter_pair(pass.adapter, layer, product);
  // The adapter's share joins before the activation.
  const bool apart = pair != nullptr && p.activation != Activation::none;
  const MatmulForward matmul = {.out = apart ? p.pre_activation : p.out,
                                .pre_activation = apart ? View() : p.pre_activation,
                                .x = p.x,
                                .weight = weight_of(pass, layer, product, p.x.shape()[0]),
                                .bias = pass.parameters.layer(layer)[product].bias,
                                .activation = apart ? Activation::none : p.activation,
                                .multiply = pass.precision};
  if (p.before.sum && !p.before.mean && pair == nullptr) {
    return device.layernorm_matmul({.layernorm = p.before, .matmul = matmul});
  }
  if (p.before.sum) device.residual_layernorm_forward(p.before);
  device.matmul_forward(matmul);
  if (pair == nullptr) return;
  adapter_hidden(pass, layer, product, p.x);
  pass.multiply(&Device::matmul_add, {.out = Accumulate{matmul.out},
                                      .x = hidden_of(pass, layer, product),  // [N, r]
                                      .weight = pair->b});
  if (apart) {
    device.activation_forward({.out = p.out, .x = p.pre_activation, .activation = p.activation});
  }
}

bool backward_product(const Pass& pass, const Gradients& gradients, int layer, Role product,
                      const ProductBackward& p) {
  if (const WritableWeight d_weight = gradients.parameters.matrix(layer, product)) {
    pass.multiply(&Device::matmul_backward_weight,
                  {.d_weight = AccumulateWeight{d_weight},
                   .d_bias = Accumulate{gradients.parameters.layer(layer)[product].bias},
                   .d_out = p.d_out,
                   .x = p.x});
  }
  const LoraAdapter::Pair* pair = adapter_pair(pass.adapter, layer, product);
  if (pair != nullptr) {
    backward_factors(pass, gradients.adapter->pair(layer, product), layer, product, *pair, p);
  }
  if (!goes_on(pass, gradients, layer, product)) return false;
  if (pair == nullptr) {
    pass.multiply(&Device::matmul_backward_input, {.d_x = p.d_x,
                                                   .d_out = p.d_out,
                                                   .weight = pass.parameters.matrix(layer, product),
                                                   .pre_activation = p.pre_activation,
                                                   .activation = p.activation});
    return true;
  }
  backward_input(pass, layer, product, *pair, p);
  if (p.activation != Activation::none) {
    pass.device.activation_backward(
        {.d_x = p.d_x, .d_out = p.d_x, .x = p.pre_activation, .activation = p.activation});
  }
  return true;
}

}  // namespace quire

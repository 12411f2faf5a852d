// Beside a product of 2·N·K·M flops, an adapter of rank r takes 2·N·r·(K + M) more forward and
// twice that backward: with r = 8 and C = 768 about 1.4 %. What it saves is the gradient of the
// weight, a third of a training step.
#include "engine/model/products.h"

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
  return pass.a.layers[static_cast<std::size_t>(layer)].lora_h[product];
}

/// Gradients of A and B; leaves that of h = scale·dropout(x)·Aᵀ in a.d_lora_h.
void backward_factors(const Pass& pass, const LoraAdapter::Pair& d, int layer, Role product,
                      const LoraAdapter::Pair& pair, const ProductBackward& p) {
  Device& device = pass.device;
  const View d_h = pass.a.d_lora_h;                                                      // [N, r]
  pass.multiply(&Device::matmul_backward_weight, {.d_weight = Accumulate{d.b},           // [M, r]
                                                  .d_out = p.d_out,                      // [N, M]
                                                  .x = hidden_of(pass, layer, product),  // [N, r]
                                                  .layout = WeightLayout::out_in});
  device.fill_zero(d_h.bytes(), d_h.size_bytes());
  pass.multiply(&Device::matmul_add, {.out = Accumulate{d_h},
                                      .x = p.d_out,
                                      .weight = pair.b,
                                      .layout = WeightLayout::in_out,
                                      .scale = pass.adapter->config().scale()});
  pass.multiply(&Device::matmul_backward_weight,
                {.d_weight = Accumulate{d.a},  // [r, K]
                 .d_out = d_h,
                 .x = dropped(pass, pass.dropout.adapter(layer, product), p.x),  // [N, K]
                 .layout = WeightLayout::out_in});
}

/// d_x = d_out·Wᵀ + dropout'(d_h·A)
void backward_input(const Pass& pass, int layer, Role product, const LoraAdapter::Pair& pair,
                    const ProductBackward& p) {
  Device& device = pass.device;
  const View d_h = pass.a.d_lora_h;  // [N, r]
  const ConstView weight = pass.parameters.layer(layer)[product].weight;
  const DropoutSites::Site site = pass.dropout.adapter(layer, product);
  if (site.p == 0.0f) {
    pass.multiply(&Device::matmul_backward_input,
                  {.d_x = p.d_x, .d_out = p.d_out, .weight = weight});
    pass.multiply(
        &Device::matmul_add,
        {.out = Accumulate{p.d_x}, .x = d_h, .weight = pair.a, .layout = WeightLayout::in_out});
    return;
  }
  // The adapter's share first, as it alone is dropped; then the weight's on top of it.
  pass.multiply(&Device::matmul_backward_input,
                {.d_x = p.d_x, .d_out = d_h, .weight = pair.a, .layout = WeightLayout::out_in});
  device.dropout({.out = p.d_x, .x = p.d_x, .p = site.p, .key = site.key});
  pass.multiply(&Device::matmul_add, {.out = Accumulate{p.d_x},
                                      .x = p.d_out,
                                      .weight = weight,  // [K, M], read as the transpose of [M, K]
                                      .layout = WeightLayout::out_in});
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
                 .layout = WeightLayout::out_in,
                 .scale = pass.adapter->config().scale()});
}

void project(const Pass& pass, int layer, Role product, const Projection& p) {
  Device& device = pass.device;
  const LoraAdapter::Pair* pair = adapter_pair(pass.adapter, layer, product);
  // The adapter's share joins before the activation.
  const bool apart = pair != nullptr && p.activation != Activation::none;
  const bool out_in = !pass.transposed.empty() && device.prefers_out_in(p.x.shape()[0]);
  const WeightAndBias<ConstView>& module = pass.parameters.layer(layer)[product];
  const MatmulForward matmul = {
      .out = apart ? p.pre_activation : p.out,
      .pre_activation = apart ? View() : p.pre_activation,
      .x = p.x,
      .weight = out_in ? pass.transposed[static_cast<std::size_t>(layer)][product] : module.weight,
      .bias = module.bias,
      .layout = out_in ? WeightLayout::out_in : WeightLayout::in_out,
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
                                      .weight = pair->b,
                                      .layout = WeightLayout::out_in});
  if (apart) {
    device.activation_forward({.out = p.out, .x = p.pre_activation, .activation = p.activation});
  }
}

void backward_product(const Pass& pass, const Gradients& gradients, int layer, Role product,
                      const ProductBackward& p) {
  const WeightAndBias<View>& d = gradients.parameters.layer(layer)[product];
  if (d.weight) {
    pass.multiply(&Device::matmul_backward_weight, {.d_weight = Accumulate{d.weight},
                                                    .d_bias = Accumulate{d.bias},
                                                    .d_out = p.d_out,
                                                    .x = p.x});
  }
  const LoraAdapter::Pair* pair = adapter_pair(pass.adapter, layer, product);
  if (pair != nullptr) {
    backward_factors(pass, gradients.adapter->pair(layer, product), layer, product, *pair, p);
  }
  if (!p.d_x) return;
  if (pair == nullptr) {
    pass.multiply(&Device::matmul_backward_input,
                  {.d_x = p.d_x,
                   .d_out = p.d_out,
                   .weight = pass.parameters.layer(layer)[product].weight,
                   .pre_activation = p.pre_activation,
                   .activation = p.activation});
    return;
  }
  backward_input(pass, layer, product, *pair, p);
  if (p.activation == Activation::none) return;
  pass.device.activation_backward(
      {.d_x = p.d_x, .d_out = p.d_x, .x = p.pre_activation, .activation = p.activation});
}

}  // namespace quire

// The backward pass: the forward pass's list of ops, read from its end.
//
// One buffer, d_x, holds the gradient of the residual stream. A branch reads it (the addition hands
// its gradient to both sides unchanged) and the layernorm at the branch's entry adds to it.
//
// What does not train has no gradient: its view in the gradients is empty, and no op is called for
// it. Below the lowest block that trains there is nothing to do.
#include <fmt/format.h>

#include <numeric>
#include <optional>
#include <string>

#include "base/error.h"
#include "engine/model/elements.h"
#include "engine/model/forward.h"
#include "engine/model/gpt2.h"
#include "engine/model/products.h"

namespace quire {
namespace {

/// The memory of `view` seen as another, not larger, shape.
View leading(View view, Shape shape) {
  return {view.bytes(), view.dtype(), shape};
}

/// d_branch = dropout'(d_x): the gradient that a branch's output receives. Without dropout that is
/// d_x itself, and nothing is copied.
View branch_gradient(const Pass& pass, const DropoutSites::Site& site) {
  if (site.p == 0.0f) return pass.a.d_x;
  const View d_branch = pass.a.d_branch;
  pass.device.dropout({.out = d_branch, .x = pass.a.d_x, .p = site.p, .key = site.key});
  return d_branch;
}

/// A layernorm of x, whose output has its gradient in d_branch, joins the residual stream's.
void backward_layernorm(const Pass& pass, const WeightAndBias<ConstView>& layernorm,
                        const WeightAndBias<View>& d, View x, const LayernormOutput& of_x) {
  pass.device.layernorm_backward({.d_x = Accumulate{pass.a.d_x},  // [N, C]
                                  .d_weight = Accumulate{d.weight},
                                  .d_bias = Accumulate{d.bias},
                                  .d_out = pass.a.d_branch,
                                  .x = x,
                                  .weight = layernorm.weight,
                                  .mean = of_x.mean,
                                  .rstd = of_x.rstd});
}

/// Head and loss, chunk by chunk, then ln_f: leaves losses in a.losses and starts d_x.
void backward_head(const Pass& pass, const ParameterGradients& grads, float grad_scale) {
  Device& device = pass.device;
  Activations& a = pass.a;
  const View targets = a.targets.reshaped({a.tokens()});  // [N]
  const View d_ln = a.d_branch;                           // [N, C]

  for_each_chunk(a, [&](RowRange rows) {
    const View logits = forward_logits(pass, rows);  // [R, W], from here on their gradient
    device.cross_entropy_backward({.losses = a.losses.rows(rows.first, rows.count),
                                   .logits_to_grads = logits,
                                   .targets = targets.rows(rows.first, rows.count),
                                   .scale = grad_scale,
                                   .vocab = pass.config.vocab_size});
    pass.multiply(&Device::matmul_backward_input,
                  {.d_x = d_ln.rows(rows.first, rows.count),  // [R, C]
                   .d_out = logits,
                   .weight = pass.parameters.padded_head()});
    if (!grads.head()) return;
    WritableWeight d_weight = grads.padded_head();
    d_weight.view = d_weight.view.rows(0, logits.shape()[1]);  // [W, C]
    pass.multiply(&Device::matmul_backward_weight, {.d_weight = AccumulateWeight{d_weight},
                                                    .d_out = logits,
                                                    .x = a.ln.rows(rows.first, rows.count)});
  });

  device.fill_zero(a.d_x.bytes(), a.d_x.size_bytes());
  backward_layernorm(pass, pass.parameters.ln_f(), grads.ln_f(), a.x_final, a.ln_f);
}

/// Whether a product's input is to be computed again, for the gradient of its weight or adapter.
bool wants_input(const Pass& pass, const Gradients& grads, int l, Role product) {
  if (pass.a.layers[l].outputs_kept) return false;
  return grads.parameters.layer(l)[product].weight ||
         adapter_pair(pass.adapter, l, product) != nullptr;
}

/// Steps 7 and 6 of the forward pass: the MLP branch. False where the gradient ends within it.
bool backward_mlp(const Pass& pass, const Gradients& grads, int l) {
  Activations& a = pass.a;
  const auto& w = pass.parameters.layer(l);
  const LayerActivations& layer = a.layers[l];
  const View d_fc = leading(a.d_wide, layer.fc.shape());  // [N, I]

  // 7. act, computed again unless kept, then through c_proj and, in the same op, through the
  // activation of 6
  const View d_branch = branch_gradient(pass, pass.dropout.mlp_projection(l));  // [N, C]
  if (wants_input(pass, grads, l, Role::mlp_proj)) {
    pass.device.activation_forward({.out = layer.act,  // [N, I]
                                    .x = layer.fc,
                                    .activation = pass.config.activation_function});
  }
  if (!backward_product(pass, grads, l, Role::mlp_proj,
                        {.d_x = d_fc,
                         .d_out = d_branch,
                         .x = layer.act,
                         .pre_activation = layer.fc,
                         .activation = pass.config.activation_function})) {
    return false;
  }
  // 6. Through c_fc, with ln_2 computed again unless kept
  if (wants_input(pass, grads, l, Role::c_fc)) {
    normalise(pass, w[Role::ln_2], layer.x_mid, {.out = layer.ln_2.out});
  }
  const ProductBackward c_fc{.d_x = a.d_branch, .d_out = d_fc, .x = layer.ln_2.out};
  if (!backward_product(pass, grads, l, Role::c_fc, c_fc)) return false;
  backward_layernorm(pass, w[Role::ln_2], grads.parameters.layer(l)[Role::ln_2], layer.x_mid,
                     layer.ln_2);
  return true;
}

/// Steps 5 to 2: the attention branch.
void backward_attention(const Pass& pass, const Gradients& grads, int l) {
  Activations& a = pass.a;
  const std::int64_t B = a.batch, T = a.length, C = pass.config.n_embd;
  const auto& w = pass.parameters.layer(l);
  const LayerActivations& layer = a.layers[l];
  const View d_qkv = leading(a.d_wide, layer.qkv.shape());  // [N, 3C]
  const View d_att = a.branch;                              // [N, C]

  // 5. Through c_proj
  const View d_branch = branch_gradient(pass, pass.dropout.attention_projection(l));  // [N, C]
  const ProductBackward c_proj{.d_x = d_att, .d_out = d_branch, .x = layer.att};
  if (!backward_product(pass, grads, l, Role::attn_proj, c_proj)) return;
  // 4. Attention of all heads
  const DropoutSites::Site attention = pass.dropout.attention(l);
  pass.device.attention_backward({.d_qkv = d_qkv.reshaped({B, T, 3 * C}),
                                  .d_out = d_att.reshaped({B, T, C}),
                                  .out = layer.att.reshaped({B, T, C}),
                                  .lse = layer.lse,
                                  .qkv = layer.qkv.reshaped({B, T, 3 * C}),
                                  .first_key = a.first_key,
                                  .heads = pass.config.n_head,
                                  .scale = pass.config.attention_scale(l),
                                  .dropout = attention.p,
                                  .key = attention.key});
  // 3. Through c_attn, with ln_1 computed again unless kept
  if (wants_input(pass, grads, l, Role::c_attn)) {
    normalise(pass, w[Role::ln_1], layer.x, {.out = layer.ln_1.out});
  }
  const ProductBackward c_attn{.d_x = a.d_branch, .d_out = d_qkv, .x = layer.ln_1.out};
  if (!backward_product(pass, grads, l, Role::c_attn, c_attn)) return;
  backward_layernorm(pass, w[Role::ln_1], grads.parameters.layer(l)[Role::ln_1], layer.x,
                     layer.ln_1);
}

void backward_embedding(const Pass& pass, const ParameterGradients& grads) {
  const Activations& a = pass.a;
  const View d_embedding = branch_gradient(pass, pass.dropout.embedding());  // [N, C]
  pass.device.embedding_backward(
      {.d_wte = Accumulate{grads.wte()},  // [V, C]
       .d_wpe = Accumulate{grads.wpe()},  // [P, C]
       .d_out = d_embedding.reshaped({a.batch, a.length, pass.config.n_embd}),
       .ids = a.ids,
       .positions = a.positions});
}

void require_float32(const Parameters& parameters) {
  for (std::size_t i = 0; i < parameters.weights().size(); ++i) {
    const DType dtype = parameters.weights()[i].dtype();
    if (dtype == DType::f32) continue;
    throw Error(Fault::usage, "training needs float32 parameters",
                {parameters.names()[i].name + " is " + name_of(dtype)},
                "load the model with its weights widened to float32");
  }
}

/// The base stays as it is under an adapter.
ParameterSet trained_parameters(const Gpt2Config& config, const TrainingOptions& options) {
  ParameterSet trained = trainable_parameters(config, options.frozen_layers);
  if (options.lora.r > 0) trained.assign(trained.size(), false);
  return trained;
}

int first_layer(const Gpt2Config& config, const TrainingOptions& options) {
  return options.lora.r > 0 ? first_adapted_layer(config, options.lora) : options.frozen_layers;
}

/// Whether blocks have gradients that are not added to, so that their memory is free meanwhile.
bool lends_gradients(const Gpt2Config& config, const TrainingOptions& options) {
  return !options.accumulates && options.lora.r == 0 && options.frozen_layers < config.n_layer;
}

/// `first_gradient` is that of the lowest block that trains, or null where the arena only counts.
Activations take(Arena& arena, const Gpt2Config& config, const TrainingOptions& options, int batch,
                 int length, std::byte* first_gradient = nullptr) {
  const FreeGradients free{first_gradient,
                           lends_gradients(config, options) ? bytes_of_block(config) : 0};
  return take_activations(arena, config, batch, length,
                          {.for_backward = true,
                           .first_layer = first_layer(config, options),
                           .inputs_only = options.gradient_checkpointing,
                           .outputs = options.keep_outputs,
                           .free = free,
                           .head = options.head,
                           .lora = options.lora},
                          options.activations);
}

/// An arena that has counted what the largest batch takes.
Arena count_activations(const Gpt2Config& config, const TrainingOptions& options) {
  Arena count;
  take(count, config, options, options.batch, options.length);
  return count;
}

void check_frozen_layers(const Gpt2Config& config, int frozen_layers) {
  if (frozen_layers >= 0 && frozen_layers <= config.n_layer) return;
  const std::string option = "`freeze_layers`"_named;
  throw Error(Fault::usage, fmt::format("{} {} is not a number of blocks", option, frozen_layers),
              {fmt::format("the model has {} blocks", config.n_layer)},
              fmt::format("{} {}", option, config.n_layer / 2));
}

double sum_losses(const Pass& pass) {
  const std::vector<float> losses = download(pass.device, pass.a.losses);
  return std::accumulate(losses.begin(), losses.end(), 0.0);
}

}  // namespace

void check_trains_in(const Device& device, DType activations) {
  if (device.activation_type(activations) == activations) return;
  std::vector<std::string> facts = {device.description()};
  if (activations == DType::bf16) {
    const std::string reason = device.why_not_in_bf16();
    if (reason.empty()) return;
    facts.push_back(reason);
  }
  throw Error(Fault::device, std::string("this device does not compute in ") + name_of(activations),
              facts, "float32, without `bf16`"_named);
}

struct Gpt2Training::Impl {
  Device& device;
  Gpt2Config config;
  const Parameters& parameters;
  const LoraAdapter* adapter;
  TrainingOptions options;
  Multiply precision;
  ParameterGradients gradients;
  Arena arena;
  Activations a = {};
  std::optional<LoraAdapter> adapter_gradients = {};
  std::optional<Parameters> copies = {};

  /// Gradients of the lowest block that trains, where they are lent.
  std::byte* first_block() const {
    if (!lends_gradients(config, options)) return nullptr;
    const View first = gradients.layer(options.frozen_layers)[Role::ln_1].weight;
    return static_cast<std::byte*>(first.bytes());
  }

  /// Zeros for gradients that are not lent.
  void zero_others() const {
    std::byte* const lent = first_block();
    if (lent == nullptr) {
      gradients.fill_zero(device);
    } else {
      const View all = gradients.all();
      auto* const begin = static_cast<std::byte*>(all.bytes());
      std::byte* const after =
          lent + (config.n_layer - options.frozen_layers) * bytes_of_block(config);
      device.fill_zero(begin, lent - begin);
      device.fill_zero(after, begin + all.size_bytes() - after);
    }
    if (adapter_gradients) adapter_gradients->fill_zero(device);
  }

  /// The gradients of block l are about to be written. What lay there is of blocks above, or logits.
  void zero_block(int l) const {
    const std::size_t bytes = bytes_of_block(config);
    device.fill_zero(first_block() + (l - options.frozen_layers) * bytes, bytes);
  }

  Pass begin(const TokenBatch& batch, const DropoutSites& dropout) {
    check_batch(config, batch);
    if (batch.targets.empty()) throw Error(Fault::internal, "training: the batch has no targets");
    arena.restart();
    a = take(arena, config, options, batch.batch, batch.length, first_block());
    upload(device, batch, a);
    return {.device = device,
            .config = config,
            .parameters = copies ? *copies : parameters,
            .a = a,
            .dropout = dropout,
            .adapter = adapter,
            .first_layer = first_layer(config, options),
            .precision = precision};
  }
};

Gpt2Training::Gpt2Training(Device& device, const Gpt2Config& config, const Parameters& parameters,
                           const TrainingOptions& asked, const LoraAdapter* adapter) {
  TrainingOptions options = asked;
  options.lora = adapter != nullptr ? adapter->config() : LoraConfig{};
  config.check();
  check_frozen_layers(config, options.frozen_layers);
  require_float32(parameters);
  check_trains_in(device, options.activations);
  options.activations = device.activation_type(asked.activations);
  options.head = head_layout(device, config, options.activations);
  const Multiply precision =
      options.activations == asked.activations ? Multiply::as_stored : Multiply::in_bf16;
  impl_.reset(
      new Impl{.device = device,
               .config = config,
               .parameters = parameters,
               .adapter = adapter,
               .options = options,
               .precision = precision,
               .gradients = ParameterGradients(device, config, trained_parameters(config, options),
                                               options.gradient_parts),
               .arena = Arena(device, count_activations(config, options).taken())});
  if (adapter != nullptr) {
    impl_->adapter_gradients.emplace(device, config, adapter->config(), options.gradient_parts);
  }
  zero_gradients();
  if (options.activations == DType::f32) return;
  impl_->copies = Parameters::with_matrices(device, config, parameters, options.activations);
  parameters_changed();
}
Gpt2Training::Gpt2Training(Gpt2Training&&) noexcept = default;
Gpt2Training::~Gpt2Training() = default;

std::vector<MemoryItem> Gpt2Training::memory_plan(const Gpt2Config& config,
                                                  const TrainingOptions& options) {
  check_frozen_layers(config, options.frozen_layers);
  std::vector<MemoryItem> items = count_activations(config, options).plan();
  if (options.activations != DType::f32) {
    items.push_back(
        {"16-bit copy of the matrices",
         Parameters::bytes_of_matrices(config, options.activations, options.head.vocab_multiple)});
  }
  const bool adapter = options.lora.r > 0;
  items.push_back(
      {"gradients",
       NamedTensors::bytes(adapter ? adapter_list(config, options.lora) : parameter_list(config),
                           adapter ? ParameterSet{} : trained_parameters(config, options),
                           options.gradient_parts, options.head.vocab_multiple)});
  sort_by_size(items);
  return items;
}

double Gpt2Training::forward_backward(const TokenBatch& batch, float grad_scale,
                                      std::uint64_t dropout_seed) {
  const DropoutSites dropout =
      impl_->options.dropout
          ? DropoutSites(impl_->config, dropout_seed, impl_->options.lora.lora_dropout,
                         batch.first_row, batch.length)
          : DropoutSites();
  const Pass pass = impl_->begin(batch, dropout);
  const auto& adapter = impl_->adapter_gradients;
  const Gradients grads = {impl_->gradients, adapter ? &*adapter : nullptr};
  const bool lent = impl_->first_block() != nullptr;
  if (!impl_->options.accumulates) impl_->zero_others();
  forward_hidden(pass);
  backward_head(pass, impl_->gradients, grad_scale);
  const int last = impl_->config.n_layer - 1;
  for (int l = last; l >= pass.first_layer; --l) {
    if (lent) impl_->zero_block(l);
    // What the layers share still holds the last one's.
    if (impl_->options.gradient_checkpointing && l < last) recompute_block(pass, l);
    if (backward_mlp(pass, grads, l)) backward_attention(pass, grads, l);
  }
  if (impl_->gradients.wte()) backward_embedding(pass, impl_->gradients);
  return sum_losses(pass);
}

double Gpt2Training::forward(const TokenBatch& batch) {
  const Pass pass = impl_->begin(batch, DropoutSites());
  forward_hidden(pass);
  forward_losses(pass);
  return sum_losses(pass);
}

void Gpt2Training::zero_gradients() {
  impl_->gradients.fill_zero(impl_->device);
  if (impl_->adapter_gradients) impl_->adapter_gradients->fill_zero(impl_->device);
}

const Parameters* Gpt2Training::copies() const {
  return impl_->copies ? &*impl_->copies : nullptr;
}

void Gpt2Training::parameters_changed() {
  if (!impl_->copies) return;
  Device& device = impl_->device;
  for (std::size_t i = 0; i < impl_->parameters.weights().size(); ++i) {
    const View to = impl_->copies->tensors()[i];
    if (to) upload(device, download(device, impl_->parameters.weights()[i]), to);
  }
}

const NamedTensors& Gpt2Training::gradients() const {
  if (impl_->adapter_gradients) return *impl_->adapter_gradients;
  return impl_->gradients;
}

}  // namespace quire

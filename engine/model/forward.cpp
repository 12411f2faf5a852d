#include "engine/model/forward.h"

#include <algorithm>
#include <string>

#include "base/error.h"
#include "engine/model/elements.h"
#include "engine/model/lora_pass.h"

namespace quire {
namespace {

void check_ids(const char* what, std::span<const std::int32_t> ids, int limit, int length,
               bool may_be_ignored) {
  for (std::size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] >= 0 && ids[i] < limit) continue;
    if (may_be_ignored && ids[i] == kIgnoredTarget) continue;
    const std::size_t row = i / static_cast<std::size_t>(length);
    const std::size_t column = i % static_cast<std::size_t>(length);
    throw Error(
        Fault::bad_data,
        std::string(what) + " " + std::to_string(ids[i]) + " is not below " + std::to_string(limit),
        {"at row " + std::to_string(row) + ", column " + std::to_string(column)});
  }
}

void check_size(const char* what, std::size_t size, const TokenBatch& batch, bool may_be_empty) {
  const std::size_t wanted =
      static_cast<std::size_t>(batch.batch) * static_cast<std::size_t>(batch.length);
  if (size == wanted || (may_be_empty && size == 0)) return;
  throw Error(Fault::internal, std::string("batch: ") + std::to_string(size) + " " + what + ", [" +
                                   std::to_string(batch.batch) + ", " +
                                   std::to_string(batch.length) + "] expected");
}

void upload(Device& device, View to, std::span<const std::int32_t> from) {
  device.copy_to_device(to.bytes(), from.data(), to.size_bytes());
}

/// Elements of any float type on the host.
std::vector<float> download(Device& device, const View& view) {
  std::vector<std::byte> bytes(view.size_bytes());
  device.copy_to_host(bytes.data(), view.bytes(), bytes.size());
  std::vector<float> values(static_cast<std::size_t>(view.count()));
  read_elements(bytes.data(), view.dtype(), values);
  return values;
}

void keep_hidden(const Pass& pass, View state, HiddenStates* hidden) {
  if (hidden != nullptr) hidden->states.push_back(download(pass.device, state));
}

/// x = dropout(x), where it drops.
void drop(Device& device, View x, const DropoutSites::Site& site) {
  if (site.p > 0.0f) device.dropout({.out = x, .x = x, .p = site.p, .key = site.key});
}

/// From layer.ln_1 to the MLP's activation in layer.act.
void forward_to_activation(const Pass& pass, int l) {
  Device& device = pass.device;
  const Gpt2Config& config = pass.config;
  Activations& a = pass.a;
  const std::int64_t B = a.batch, T = a.length, C = config.n_embd;
  const LayerParameters& w = pass.parameters.layer(l);
  const LayerActivations& layer = a.layers[static_cast<std::size_t>(l)];

  // 3. q, k, v = ln_1·c_attn
  device.matmul_forward({.out = layer.qkv,  // [N, 3C]
                         .x = layer.ln_1,   // [N, C]
                         .weight = w.c_attn_weight,
                         .bias = w.c_attn_bias,
                         .multiply = pass.multiply});
  add_adapter(pass, l, BlockProduct::c_attn, layer.ln_1, layer.qkv);
  // 4. Attention of all heads
  const DropoutSites::Site attention = pass.dropout.attention(l);
  device.attention_forward({.out = layer.att.reshaped({B, T, C}),
                            .lse = layer.lse,
                            .qkv = layer.qkv.reshaped({B, T, 3 * C}),
                            .first_key = a.first_key,
                            .heads = config.n_head,
                            .scale = config.attention_scale(l),
                            .dropout = attention.p,
                            .key = attention.key});
  // 5. branch = dropout(att·c_proj)
  device.matmul_forward({.out = a.branch,  // [N, C]
                         .x = layer.att,
                         .weight = w.attn_proj_weight,
                         .bias = w.attn_proj_bias,
                         .multiply = pass.multiply});
  add_adapter(pass, l, BlockProduct::attn_proj, layer.att, a.branch);
  drop(device, a.branch, pass.dropout.attention_projection(l));
  // 6. x_mid = x + branch;  ln_2
  device.residual_layernorm_forward({.sum = layer.x_mid,
                                     .out = layer.ln_2,
                                     .mean = layer.ln_2_mean,
                                     .rstd = layer.ln_2_rstd,
                                     .x = layer.x,
                                     .branch = a.branch,
                                     .weight = w.ln_2_weight,
                                     .bias = w.ln_2_bias,
                                     .eps = config.layer_norm_epsilon});
  // 7. act = activation(ln_2·c_fc)
  if (adapter_pair(pass.adapter, l, BlockProduct::c_fc) == nullptr) {
    device.matmul_forward({.out = layer.act,  // [N, I]
                           .pre_activation = layer.fc,
                           .x = layer.ln_2,
                           .weight = w.c_fc_weight,
                           .bias = w.c_fc_bias,
                           .activation = config.activation_function,
                           .multiply = pass.multiply});
    return;
  }
  device.matmul_forward({.out = layer.fc,
                         .x = layer.ln_2,
                         .weight = w.c_fc_weight,
                         .bias = w.c_fc_bias,
                         .multiply = pass.multiply});
  add_adapter(pass, l, BlockProduct::c_fc, layer.ln_2, layer.fc);
  device.activation_forward(
      {.out = layer.act, .x = layer.fc, .activation = config.activation_function});
}

}  // namespace

Activations take_activations(Arena& arena, const Gpt2Config& config, int batch, int length,
                             const Keep& keep, DType dtype) {
  const std::int64_t B = batch, T = length, N = B * T, C = config.n_embd, I = config.inner();
  const std::int64_t H = config.n_head;
  const std::int64_t W = round_up(config.vocab_size, keep.head.vocab_multiple);
  const int L = config.n_layer, first = keep.for_backward ? keep.first_layer : L;
  const auto statistics = [&] { return arena.take("layernorm statistics", {N}); };
  const auto take_stream = [&] { return arena.take("residual stream", {N, C}, dtype); };
  const auto take_shared = [&](LayerActivations& layer) {
    layer.qkv = arena.take("queries, keys, values", {N, 3 * C}, dtype);
    layer.att = arena.take("attention outputs", {N, C}, dtype);
  };
  const auto take_kept = [&](LayerActivations& layer) {
    take_shared(layer);
    layer.ln_1_mean = statistics();
    layer.ln_1_rstd = statistics();
    layer.lse = arena.take("attention log-sum-exp", {B, H, T});
    layer.x_mid = take_stream();
    layer.ln_2_mean = statistics();
    layer.ln_2_rstd = statistics();
    layer.fc = arena.take("MLP pre-activations", {N, I}, dtype);
    layer.outputs_kept = keep.outputs && !keep.inputs_only;
    if (!layer.outputs_kept) return;
    layer.ln_1 = arena.take("layernorm outputs of the blocks", {N, C}, dtype);
    layer.ln_2 = arena.take("layernorm outputs of the blocks", {N, C}, dtype);
    layer.act = arena.take("MLP activations", {N, I}, dtype);
  };
  const auto take_adapter = [&](LayerActivations& layer, int l) {
    for (int i = 0; i < kBlockProducts && keep.lora.r > 0; ++i) {
      View& h = layer.lora_h[static_cast<std::size_t>(i)];
      if (h || !is_adapted(keep.lora, l, static_cast<BlockProduct>(i))) continue;
      h = arena.take("products with the adapter's A", {N, keep.lora.r}, dtype);
    }
  };

  Activations a;
  a.batch = batch;
  a.length = length;
  a.ids = arena.take("token ids", {B, T}, DType::i32);
  a.positions = arena.take("positions", {B, T}, DType::i32);
  a.first_key = arena.take("attention masks", {B, T}, DType::i32);
  a.targets = arena.take("targets", {B, T}, DType::i32);
  LayerActivations layer;
  for (int l = first; l < L; ++l) {
    if (l == first || !keep.inputs_only) {
      layer = {};
      take_kept(layer);
    }
    take_adapter(layer, l);
    layer.x = take_stream();
    a.layers.push_back(layer);
  }
  // Layers that keep nothing work in the memory of the first one that does, which comes later.
  LayerActivations passing;
  if (first < L) {
    passing = {.x = a.layers[0].x, .qkv = layer.qkv, .att = layer.att};
  } else {
    passing.x = take_stream();
    take_shared(passing);
  }
  passing.x_mid = passing.x;
  a.layers.insert(a.layers.begin(), static_cast<std::size_t>(first), passing);
  a.x_final = first < L ? take_stream() : passing.x;
  if (keep.for_backward) {
    a.ln_f_mean = statistics();
    a.ln_f_rstd = statistics();
  }
  a.ln = arena.take("layernorm output", {N, C}, dtype);
  a.branch = arena.take("branch output", {N, C}, dtype);
  const auto shares = [](const LayerActivations& l) { return !l.outputs_kept; };
  if (std::any_of(a.layers.begin(), a.layers.end(), shares)) {
    a.act = arena.take("MLP activation", {N, I}, dtype);
  }
  for (LayerActivations& l : a.layers) {
    if (!l.outputs_kept) {
      l.ln_1 = l.ln_2 = a.ln;
      l.act = a.act;
    }
  }
  a.logits = arena.take("logits of a chunk", {std::min(N, keep.head.rows), W},
                        keep.for_backward ? dtype : DType::f32);
  a.losses = arena.take("losses", {N});
  if (keep.for_backward) {
    a.d_x = arena.take("gradient of the residual stream", {N, C}, dtype);
    a.d_branch = arena.take("gradient of a branch", {N, C}, dtype);
  }
  if (first < L) {
    a.d_wide = arena.take("gradient inside a branch", {N, std::max(I, 3 * C)}, dtype);
  }
  if (keep.lora.r > 0) {
    a.d_lora_h = arena.take("gradient of a product with A", {N, keep.lora.r}, dtype);
    if (keep.lora.lora_dropout > 0) {
      a.lora_x = arena.take("dropped input of the adapter", {N, std::max(C, I)}, dtype);
    }
  }
  return a;
}

DropoutSites::DropoutSites(const Gpt2Config& config, std::uint64_t seed, float lora_dropout,
                           std::int64_t first_row, std::int64_t length)
    : embd_pdrop_(config.embd_pdrop),
      attn_pdrop_(config.attn_pdrop),
      resid_pdrop_(config.resid_pdrop),
      lora_dropout_(lora_dropout),
      seed_(seed),
      channels_(config.n_embd),
      inner_(config.inner()),
      heads_(config.n_head),
      first_row_(first_row),
      length_(length) {}

DropoutSites::Site DropoutSites::site(float p, int layer, int place,
                                      std::int64_t numbers_a_token) const {
  auto stream = mix(static_cast<std::uint64_t>(layer), static_cast<std::uint64_t>(place));
  const std::int64_t first = first_row_ * length_ * numbers_a_token;
  // A stream begins with a whole block. Where the row does not (attention with one to three heads
  // over an odd number of tokens), it takes a stream of its own.
  if (first % 4 != 0) {
    return {.p = p,
            .key = {.seed = seed_, .stream = mix(stream, static_cast<std::uint64_t>(first))}};
  }
  return {
      .p = p,
      .key = {
          .seed = seed_, .stream = stream, .first_block = static_cast<std::uint64_t>(first / 4)}};
}

void check_batch(const Gpt2Config& config, const TokenBatch& batch) {
  if (batch.batch < 1 || batch.length < 1) {
    throw Error(Fault::internal, "batch: [" + std::to_string(batch.batch) + ", " +
                                     std::to_string(batch.length) + "] has no tokens");
  }
  if (batch.length > config.n_positions && batch.positions.empty()) {
    throw Error(Fault::usage,
                "a row of " + std::to_string(batch.length) +
                    " tokens does not fit the context of " + std::to_string(config.n_positions),
                {"n_positions of the model is " + std::to_string(config.n_positions)},
                "use shorter rows");
  }
  check_size("ids", batch.ids.size(), batch, false);
  check_size("targets", batch.targets.size(), batch, true);
  check_size("positions", batch.positions.size(), batch, true);
  check_size("first keys", batch.first_key.size(), batch, true);
  check_ids("token id", batch.ids, config.vocab_size, batch.length, false);
  check_ids("target id", batch.targets, config.vocab_size, batch.length, true);
  check_ids("position", batch.positions, config.n_positions, batch.length, false);
}

void upload(Device& device, const TokenBatch& batch, Activations& a) {
  upload(device, a.ids, batch.ids);
  if (!batch.targets.empty()) upload(device, a.targets, batch.targets);
  if (batch.first_key.empty()) {
    a.first_key = {};
  } else {
    upload(device, a.first_key, batch.first_key);
  }
  if (!batch.positions.empty()) {
    upload(device, a.positions, batch.positions);
    return;
  }
  std::vector<std::int32_t> counted(batch.ids.size());
  for (std::size_t i = 0; i < counted.size(); ++i) {
    counted[i] = static_cast<std::int32_t>(i % static_cast<std::size_t>(batch.length));
  }
  upload(device, a.positions, counted);
  device.synchronize();  // `counted` goes out of scope
}

void forward_hidden(const Pass& pass, HiddenStates* hidden) {
  Device& device = pass.device;
  const Gpt2Config& config = pass.config;
  const Parameters& p = pass.parameters;
  Activations& a = pass.a;
  const std::int64_t B = a.batch, T = a.length, C = config.n_embd;

  // 1. x = dropout(wte[ids] + wpe[positions])
  const View x_0 = a.layers.front().x;  // [N, C]
  device.embedding_forward({.out = x_0.reshaped({B, T, C}),
                            .ids = a.ids,
                            .positions = a.positions,
                            .wte = p.wte(),
                            .wpe = p.wpe()});
  drop(device, x_0, pass.dropout.embedding());
  if (hidden != nullptr) hidden->states.clear();
  keep_hidden(pass, x_0, hidden);

  // 2. The first block's ln_1. All other layernorms are fused with the addition before them.
  device.layernorm_forward({.out = a.layers.front().ln_1,
                            .mean = a.layers.front().ln_1_mean,
                            .rstd = a.layers.front().ln_1_rstd,
                            .x = x_0,
                            .weight = p.layer(0).ln_1_weight,
                            .bias = p.layer(0).ln_1_bias,
                            .eps = config.layer_norm_epsilon});

  for (int l = 0; l < config.n_layer; ++l) {
    const LayerParameters& w = p.layer(l);
    const LayerActivations& layer = a.layers[static_cast<std::size_t>(l)];
    const bool last = l + 1 == config.n_layer;

    forward_to_activation(pass, l);  // 3 to 7
    // 8. branch = dropout(act·c_proj)
    device.matmul_forward({.out = a.branch,  // [N, C]
                           .x = layer.act,
                           .weight = w.mlp_proj_weight,
                           .bias = w.mlp_proj_bias,
                           .multiply = pass.multiply});
    add_adapter(pass, l, BlockProduct::mlp_proj, layer.act, a.branch);
    drop(device, a.branch, pass.dropout.mlp_projection(l));
    // 9. x = x_mid + branch;  ln_1 of the next block, or ln_f
    const View x_next = last ? a.x_final : a.layers[static_cast<std::size_t>(l) + 1].x;
    const LayerActivations* next = last ? nullptr : &a.layers[static_cast<std::size_t>(l) + 1];
    device.residual_layernorm_forward(
        {.sum = x_next,
         .out = last ? a.ln : next->ln_1,
         .mean = last ? a.ln_f_mean : next->ln_1_mean,
         .rstd = last ? a.ln_f_rstd : next->ln_1_rstd,
         .x = layer.x_mid,
         .branch = a.branch,
         .weight = last ? p.ln_f_weight() : p.layer(l + 1).ln_1_weight,
         .bias = last ? p.ln_f_bias() : p.layer(l + 1).ln_1_bias,
         .eps = config.layer_norm_epsilon});
    keep_hidden(pass, x_next, hidden);
  }
  keep_hidden(pass, a.ln, hidden);
}

void recompute_block(const Pass& pass, int layer) {
  Activations& a = pass.a;
  const LayerParameters& w = pass.parameters.layer(layer);
  const LayerActivations& kept = a.layers[static_cast<std::size_t>(layer)];
  pass.device.layernorm_forward({.out = kept.ln_1,
                                 .mean = kept.ln_1_mean,
                                 .rstd = kept.ln_1_rstd,
                                 .x = kept.x,
                                 .weight = w.ln_1_weight,
                                 .bias = w.ln_1_bias,
                                 .eps = pass.config.layer_norm_epsilon});
  forward_to_activation(pass, layer);
  adapter_hidden(pass, layer, BlockProduct::mlp_proj, kept.act);
}

void for_each_chunk(const Activations& a, const std::function<void(RowRange)>& head) {
  const std::int64_t R = a.logits.shape()[0];
  for (std::int64_t first = 0; first < a.tokens(); first += R) {
    head({.first = first, .count = std::min(R, a.tokens() - first)});
  }
}

View forward_logits(const Pass& pass, RowRange rows) {
  const View weight = pass.parameters.padded_head();  // [W, C]
  const View logits(pass.a.logits.bytes(), pass.a.logits.dtype(), {rows.count, weight.shape()[0]});
  pass.device.matmul_forward({.out = logits,
                              .x = pass.a.ln.rows(rows.first, rows.count),  // [R, C]
                              .weight = weight,
                              .layout = WeightLayout::out_in,
                              .multiply = pass.multiply});
  return logits;
}

void forward_losses(const Pass& pass) {
  const View targets = pass.a.targets.reshaped({pass.a.tokens()});  // [N]
  for_each_chunk(pass.a, [&](RowRange rows) {
    pass.device.cross_entropy_forward({.losses = pass.a.losses.rows(rows.first, rows.count),
                                       .logits = forward_logits(pass, rows),
                                       .targets = targets.rows(rows.first, rows.count),
                                       .vocab = pass.config.vocab_size});
  });
}

std::vector<float> download_losses(const Pass& pass) {
  std::vector<float> losses(static_cast<std::size_t>(pass.a.tokens()));
  pass.device.copy_to_host(losses.data(), pass.a.losses.bytes(), pass.a.losses.size_bytes());
  return losses;
}

}  // namespace quire

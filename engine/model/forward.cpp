#include "engine/model/forward.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "engine/model/elements.h"
#include "engine/model/products.h"

namespace quire {
namespace {

constexpr std::int64_t kLine = 64;  // bytes: where tensors begin

void check_size(const char* what, std::size_t size, const TokenBatch& batch, bool may_be_empty) {
  const std::int64_t wanted = std::int64_t{batch.batch} * batch.length;
  if (std::cmp_equal(size, wanted) || (may_be_empty && size == 0)) return;
  throw Error(Fault::internal, fmt::format("batch: {} {}, [{}, {}] expected", size, what,
                                           batch.batch, batch.length));
}

void upload(Device& device, View to, std::span<const std::int32_t> from) {
  device.copy_to_device(to.bytes(), from.data(), to.size_bytes());
}

void keep_hidden(const Pass& pass, View state, HiddenStates* hidden) {
  if (hidden != nullptr) hidden->states.push_back(download(pass.device, state));
}

/// x = dropout(x), where it drops.
void drop(Device& device, View x, const DropoutSites::Site& site) {
  if (site.p > 0.0f) device.dropout({.out = x, .x = x, .p = site.p, .key = site.key});
}

/// Attention of all heads, over what is cached where there is a cache.
void attend(const Pass& pass, int l) {
  const Activations& a = pass.a;
  const LayerActivations& layer = a.layers[static_cast<std::size_t>(l)];
  if (pass.cache != nullptr) {
    const std::int64_t H = pass.config.n_head;
    for (const KeyValueCache::Group& g : pass.cache->groups) {
      const auto of_group = [&](const View& view) {
        return view.rows(g.first_token, g.rows * g.tokens_a_row)
            .reshaped({g.rows, g.tokens_a_row, view.shape()[1]});
      };
      pass.device.attention_cached({.out = of_group(layer.att),
                                    .k_cache = pass.cache->all.rows(2 * l * H, H),
                                    .v_cache = pass.cache->all.rows((2 * l + 1) * H, H),
                                    .qkv = of_group(layer.qkv),
                                    .past = pass.cache->past.rows(g.first_row, g.rows),
                                    .blocks = pass.cache->blocks.rows(g.first_row, g.rows),
                                    .heads = pass.config.n_head,
                                    .scale = pass.config.attention_scale(l)});
    }
    return;
  }
  const std::int64_t B = a.batch, T = a.length, C = pass.config.n_embd;
  const DropoutSites::Site site = pass.dropout.attention(l);
  pass.device.attention_forward({.out = layer.att.reshaped({B, T, C}),
                                 .lse = layer.lse,
                                 .qkv = layer.qkv.reshaped({B, T, 3 * C}),
                                 .first_key = a.first_key,
                                 .heads = pass.config.n_head,
                                 .scale = pass.config.attention_scale(l),
                                 .dropout = site.p,
                                 .key = site.key});
}

/// Past the last attention rows no longer meet: the rest of the last block and the head see the
/// last token of each row alone, which moves to the front.
void keep_last_tokens(const Pass& pass) {
  Activations& a = pass.a;
  LayerActivations& layer = a.layers.back();
  std::int64_t B = 0;
  for (const KeyValueCache::Group& g : pass.cache->groups) {
    for (std::int64_t r = 0; r < g.rows; ++r, ++B) {
      const std::int64_t last = g.first_token + (r + 1) * g.tokens_a_row - 1;
      if (last == B) continue;
      for (const View& view : {layer.x, layer.att}) {  // nothing has been moved to row `last` yet
        const View from = view.rows(last, 1);
        pass.device.copy(view.rows(B, 1).bytes(), from.bytes(), from.size_bytes());
      }
    }
  }
  for (View* view : {&layer.x, &layer.att, &layer.x_mid, &layer.ln_2.out, &layer.act, &a.branch,
                     &a.x_final, &a.ln_f.out, &a.ln}) {
    *view = view->rows(0, B);
  }
}

/// x = x + branch, and its layernorm.
ResidualLayernormForward add_branch(const Pass& pass, const WeightAndBias<ConstView>& layernorm,
                                    View x, View sum, const LayernormOutput& to) {
  return {.sum = sum,
          .out = to.out,
          .mean = to.mean,
          .rstd = to.rstd,
          .x = x,
          .branch = pass.a.branch,
          .weight = layernorm.weight,
          .bias = layernorm.bias,
          .eps = pass.config.layer_norm_epsilon};
}

/// From q, k and v of block l to the MLP's activation in layer.act.
void forward_to_activation(const Pass& pass, int l) {
  Activations& a = pass.a;
  const LayerActivations& layer = a.layers[static_cast<std::size_t>(l)];
  // 4. Attention of all heads
  attend(pass, l);
  if (pass.cache != nullptr && l + 1 == pass.config.n_layer) keep_last_tokens(pass);
  // 5. branch = dropout(att·c_proj)
  project(pass, l, Role::attn_proj, {.x = layer.att, .out = a.branch});
  drop(pass.device, a.branch, pass.dropout.attention_projection(l));
  // 6. x_mid = x + branch;  act = activation(ln_2·c_fc)
  project(pass, l, Role::c_fc,
          {.x = layer.ln_2.out,
           .out = layer.act,  // [N, I]
           .pre_activation = layer.fc,
           .activation = pass.config.activation_function,
           .before = add_branch(pass, pass.parameters.layer(l)[Role::ln_2], layer.x, layer.x_mid,
                                layer.ln_2)});
}

/// q, k and v of block l from its input.
void qkv_from_input(const Pass& pass, int l) {
  const LayerActivations& layer = pass.a.layers[static_cast<std::size_t>(l)];
  normalise(pass, pass.parameters.layer(l)[Role::ln_1], layer.x, layer.ln_1);
  project(pass, l, Role::c_attn, {.x = layer.ln_1.out, .out = layer.qkv});
}

void take_adapter(Arena& arena, const LoraConfig& lora, int l, std::int64_t N, DType dtype,
                  LayerActivations& layer) {
  for (const Role product : kProducts) {
    View& h = layer.lora_h[product];
    if (h || lora.r == 0 || !is_adapted(lora, l, product)) continue;
    h = arena.take("products with the adapter's A", {N, lora.r}, dtype);
  }
}

/// The memory of gradients that is free: its end for the logits, where a whole chunk of them fits, all
/// before it for layers, from the first block's on. A smaller batch never needs more memory elsewhere
/// than a larger one: where the logits lie does not depend on it, and more of its layers fit.
class LentGradients {
 public:
  LentGradients(const FreeGradients& free, int blocks, std::size_t bytes_of_logits)
      : free_(free), end_(blocks * free.bytes_of_block) {
    holds_logits_ = free.bytes_of_block > 0 && bytes_of_logits <= end_;
    if (holds_logits_) end_ = (end_ - bytes_of_logits) / kLine * kLine;
  }

  bool holds_logits() const { return holds_logits_; }
  std::byte* logits() const { return free_.first == nullptr ? nullptr : free_.first + end_; }

  /// Calls body(arena) if what that takes fits below the gradients of block number `block`. False
  /// where it does not.
  template <class Body>
  bool take(int block, const Body& body) {
    if (free_.bytes_of_block == 0) return false;
    Arena count;
    body(count);
    if (taken_ + count.taken() > std::min(block * free_.bytes_of_block, end_)) return false;
    Arena there(free_.first == nullptr ? nullptr : free_.first + taken_, count.taken());
    body(there);
    taken_ += count.taken();
    return true;
  }

 private:
  FreeGradients free_;
  std::size_t end_, taken_ = 0;
  bool holds_logits_;
};

/// What is of use for a moment only, in the same memory where the moments differ: the logits of a
/// chunk belong to the head, a branch's output and what is N·I wide to the blocks before and after
/// it; and the gradient inside a branch is written when the activation has been read for the last
/// time (backward_product() takes the gradient of the weight first). Logits that have a place among
/// the gradients need none here.
void take_passing(Arena& arena, const LentGradients& lent, std::int64_t N, std::int64_t C,
                  std::int64_t I, Shape logits, DType dtype, Activations& a) {
  const auto size = static_cast<std::int64_t>(size_of(dtype));
  const std::int64_t wide = round_up(N * std::max(I, 3 * C) * size, kLine);
  const bool apart = lent.holds_logits();
  const std::int64_t bytes = std::max(wide + N * C * size, apart ? 0 : logits.count() * size);
  const View all = arena.take(apart ? "work of a block" : "logits of a chunk, or work of a block",
                              {bytes / size}, dtype);
  auto* const first = static_cast<std::byte*>(all.bytes());  // null where an arena only counts
  a.logits = View(apart ? lent.logits() : first, dtype, logits);
  a.act = View(first, dtype, {N, I});
  a.d_wide = View(first, dtype, {N, std::max(I, 3 * C)});
  a.branch = View(first == nullptr ? nullptr : first + wide, dtype, {N, C});
}

/// The outputs of all layers that do not keep theirs are one.
void share_outputs(Activations& a) {
  for (LayerActivations& layer : a.layers) {
    if (layer.outputs_kept) continue;
    layer.ln_1.out = layer.ln_2.out = a.ln;
    layer.act = a.act;
  }
}

/// What only the backward pass has, and adapters.
void take_gradients(Arena& arena, const Gpt2Config& config, const Keep& keep, DType dtype,
                    Activations& a) {
  const std::int64_t N = a.tokens(), C = config.n_embd, I = config.inner();
  if (keep.for_backward) {
    a.d_x = arena.take("gradient of the residual stream", {N, C}, dtype);
    a.d_branch = arena.take("gradient of a branch", {N, C}, dtype);
  }
  if (keep.lora.r > 0) {
    a.d_lora_h = arena.take("gradient of a product with A", {N, keep.lora.r}, dtype);
    if (keep.lora.lora_dropout > 0) {
      a.lora_x = arena.take("dropped input of the adapter", {N, std::max(C, I)}, dtype);
    }
  }
}

}  // namespace

Activations take_activations(Arena& arena, const Gpt2Config& config, int batch, int length,
                             const Keep& keep, DType dtype) {
  const std::int64_t B = batch, T = length, N = B * T, C = config.n_embd, I = config.inner();
  const std::int64_t H = config.n_head;
  const std::int64_t W = round_up(config.vocab_size, keep.head.vocab_multiple);
  const int L = config.n_layer, first = keep.for_backward ? keep.first_layer : L;
  const auto statistics = [&](Arena& from) { return from.take("layernorm statistics", {N}); };
  const auto take_stream = [&](Arena& from) { return from.take("residual stream", {N, C}, dtype); };
  const auto take_shared = [&](Arena& from, LayerActivations& layer) {
    layer.qkv = from.take("queries, keys, values", {N, 3 * C}, dtype);
    layer.att = from.take("attention outputs", {N, C}, dtype);
  };
  const auto take_kept = [&](Arena& from, LayerActivations& layer) {
    take_shared(from, layer);
    layer.ln_1.mean = statistics(from);
    layer.ln_1.rstd = statistics(from);
    layer.lse = from.take("attention log-sum-exp", {B, H, T});
    layer.x_mid = take_stream(from);
    layer.ln_2.mean = statistics(from);
    layer.ln_2.rstd = statistics(from);
    layer.fc = from.take("MLP pre-activations", {N, I}, dtype);
    layer.outputs_kept = keep.outputs && !keep.inputs_only;
    if (!layer.outputs_kept) return;
    layer.ln_1.out = from.take("layernorm outputs of the blocks", {N, C}, dtype);
    layer.ln_2.out = from.take("layernorm outputs of the blocks", {N, C}, dtype);
    layer.act = from.take("MLP activations", {N, I}, dtype);
  };

  Activations a;
  a.batch = batch;
  a.length = length;
  a.ids = arena.take("token ids", {B, T}, DType::i32);
  a.positions = arena.take("positions", {B, T}, DType::i32);
  a.first_key = arena.take("attention masks", {B, T}, DType::i32);
  a.targets = arena.take("targets", {B, T}, DType::i32);
  LentGradients lent(keep.free, L - first, keep.head.rows * W * size_of(dtype));
  LayerActivations layer;
  for (int l = first; l < L; ++l) {
    const auto take_layer = [&](Arena& from) {
      if (l == first || !keep.inputs_only) {
        layer = {};
        take_kept(from, layer);
      }
      take_adapter(from, keep.lora, l, N, dtype, layer);
      layer.x = take_stream(from);
    };
    // What all layers share is of use until the last of them.
    if (keep.inputs_only || !lent.take(l - first, take_layer)) take_layer(arena);
    a.layers.push_back(layer);
  }
  // Layers that keep nothing work in the memory of the first one that does, which comes later.
  LayerActivations passing;
  if (first < L) {
    passing = {.x = a.layers[0].x, .qkv = layer.qkv, .att = layer.att};
  } else {
    passing.x = take_stream(arena);
    take_shared(arena, passing);
  }
  passing.x_mid = passing.x;
  a.layers.insert(a.layers.begin(), static_cast<std::size_t>(first), passing);
  a.x_final = first < L ? take_stream(arena) : passing.x;
  if (keep.for_backward) {
    a.ln_f.mean = statistics(arena);
    a.ln_f.rstd = statistics(arena);
  }
  a.ln = a.ln_f.out = arena.take("layernorm output", {N, C}, dtype);
  const Shape logits = {std::min(N, keep.head.rows), W};
  if (keep.for_backward) {
    take_passing(arena, lent, N, C, I, logits, dtype, a);
  } else {
    a.branch = arena.take("branch output", {N, C}, dtype);
    a.act = arena.take("MLP activation", {N, I}, dtype);
    a.logits = arena.take("logits of a chunk", logits);
  }
  share_outputs(a);
  a.losses = arena.take("losses", {N});
  take_gradients(arena, config, keep, dtype, a);
  return a;
}

DropoutSites::Site DropoutSites::site(float p, int layer, int place,
                                      std::int64_t numbers_a_token) const {
  const auto stream = mix(static_cast<std::uint64_t>(layer), static_cast<std::uint64_t>(place));
  const auto first = static_cast<std::uint64_t>(first_row_ * length_ * numbers_a_token);
  // A stream begins with a whole block. Where the row does not (attention with one to three heads
  // over an odd number of tokens), it takes a stream of its own.
  if (first % 4 != 0) return {.p = p, .key = {.seed = seed_, .stream = mix(stream, first)}};
  return {.p = p, .key = {.seed = seed_, .stream = stream, .first_block = first / 4}};
}

Multiply inference_precision(const Device& device, const Gpt2Config& config,
                             const Parameters& parameters) {
  const auto is_narrow = [](const Weight& w) { return w.format == WeightFormat::bfloat16; };
  bool all = is_narrow(parameters.head());
  for (int l = 0; l < config.n_layer; ++l) {
    for (const Role product : kProducts) all = all && is_narrow(parameters.matrix(l, product));
  }
  return all && device.activation_type(DType::bf16) == DType::f32 &&
                 device.why_not_in_bf16().empty()
             ? Multiply::in_bf16
             : Multiply::as_stored;
}

void check_ids(const char* what, std::span<const std::int32_t> ids, int limit, std::size_t length,
               bool may_be_ignored, std::size_t first_row) {
  for (std::size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] >= 0 && ids[i] < limit) continue;
    if (may_be_ignored && ids[i] == kIgnoredTarget) continue;
    throw Error(Fault::bad_data, fmt::format("{} {} is not below {}", what, ids[i], limit),
                {fmt::format("at row {}, column {}", first_row + i / length, i % length)});
  }
}

void check_batch(const Gpt2Config& config, const TokenBatch& batch) {
  if (batch.batch < 1 || batch.length < 1) {
    throw Error(Fault::internal,
                fmt::format("batch: [{}, {}] has no tokens", batch.batch, batch.length));
  }
  if (batch.length > config.n_positions && batch.positions.empty()) {
    throw Error(Fault::usage,
                fmt::format("a row of {} tokens does not fit the context of {}", batch.length,
                            config.n_positions),
                {fmt::format("n_positions of the model is {}", config.n_positions)},
                "use shorter rows");
  }
  check_size("ids", batch.ids.size(), batch, false);
  check_size("targets", batch.targets.size(), batch, true);
  check_size("positions", batch.positions.size(), batch, true);
  check_size("first keys", batch.first_key.size(), batch, true);
  const auto length = static_cast<std::size_t>(batch.length);
  check_ids("token id", batch.ids, config.vocab_size, length);
  check_ids("target id", batch.targets, config.vocab_size, length, /*may_be_ignored=*/true);
  check_ids("position", batch.positions, config.n_positions, length);
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

void normalise(const Pass& pass, const WeightAndBias<ConstView>& layernorm, View x,
               const LayernormOutput& to) {
  pass.device.layernorm_forward({.out = to.out,
                                 .mean = to.mean,
                                 .rstd = to.rstd,
                                 .x = x,
                                 .weight = layernorm.weight,
                                 .bias = layernorm.bias,
                                 .eps = pass.config.layer_norm_epsilon});
}

void forward_hidden(const Pass& pass, HiddenStates* hidden) {
  const Parameters& p = pass.parameters;
  Activations& a = pass.a;

  // 1. x = dropout(wte[ids] + wpe[positions])
  const View x_0 = a.layers.front().x;  // [N, C]
  pass.device.embedding_forward({.out = x_0.reshaped({a.batch, a.length, pass.config.n_embd}),
                                 .ids = a.ids,
                                 .positions = a.positions,
                                 .wte = p.table(),
                                 .wpe = p.wpe()});
  drop(pass.device, x_0, pass.dropout.embedding());
  if (hidden != nullptr) hidden->states.clear();

  for (int l = 0; l < pass.config.n_layer; ++l) {
    const LayerActivations& layer = a.layers[static_cast<std::size_t>(l)];
    // 2. x = x_mid + branch of the block before, where there is one
    // 3. q, k, v = ln_1·c_attn
    if (l == 0) {
      qkv_from_input(pass, l);
    } else {
      const LayerActivations& before = a.layers[static_cast<std::size_t>(l) - 1];
      project(
          pass, l, Role::c_attn,
          {.x = layer.ln_1.out,
           .out = layer.qkv,  // [N, 3C]
           .before = add_branch(pass, p.layer(l)[Role::ln_1], before.x_mid, layer.x, layer.ln_1)});
    }
    keep_hidden(pass, layer.x, hidden);
    forward_to_activation(pass, l);  // 4 to 6
    // 7. branch = dropout(act·c_proj)
    project(pass, l, Role::mlp_proj, {.x = layer.act, .out = a.branch});
    drop(pass.device, a.branch, pass.dropout.mlp_projection(l));
  }
  // 8. x = x_mid + branch;  ln_f
  pass.device.residual_layernorm_forward(
      add_branch(pass, p.ln_f(), a.layers.back().x_mid, a.x_final, a.ln_f));
  keep_hidden(pass, a.x_final, hidden);
  keep_hidden(pass, a.ln, hidden);
}

void recompute_block(const Pass& pass, int layer) {
  qkv_from_input(pass, layer);
  forward_to_activation(pass, layer);
  adapter_hidden(pass, layer, Role::mlp_proj, pass.a.layers[static_cast<std::size_t>(layer)].act);
}

void for_each_chunk(const Activations& a, const std::function<void(RowRange)>& head) {
  const std::int64_t R = a.logits.shape()[0];
  for (std::int64_t first = 0; first < a.tokens(); first += R) {
    head({.first = first, .count = std::min(R, a.tokens() - first)});
  }
}

View forward_logits(const Pass& pass, RowRange rows) {
  const Weight weight = pass.parameters.padded_head();  // [W, C]
  const View logits(pass.a.logits.bytes(), pass.a.logits.dtype(), {rows.count, weight.out()});
  pass.multiply(&Device::matmul_forward, {.out = logits,
                                          .x = pass.a.ln.rows(rows.first, rows.count),  // [R, C]
                                          .weight = weight});
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

}  // namespace quire

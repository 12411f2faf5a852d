#include "engine/model/kv_cache.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include "base/error.h"
#include "engine/model/arena.h"

namespace quire {
namespace {

struct LayerCache {
  View keys, values;  // [B, H, S, D]
};

std::vector<LayerCache> take_caches(Arena& arena, const Gpt2Config& config, int batch, int slots,
                                    DType dtype) {
  const Shape shape = {batch, config.n_head, slots, config.head_size()};
  std::vector<LayerCache> caches(static_cast<std::size_t>(config.n_layer));
  for (LayerCache& cache : caches) {
    cache.keys = arena.take("cached keys", shape, dtype);
    cache.values = arena.take("cached values", shape, dtype);
  }
  return caches;
}

/// What one call works with, for B rows of T new tokens, N = B·T.
struct Workspace {
  View inputs;  // [2·N + 2·B] i32: what the host brings, in one piece, the four that follow
  View ids, positions;   // [B, T] i32
  View past, first_key;  // [B] i32
  View x;                // [N, C] the residual stream
  View x_next;           // [N, C] the residual stream after the next addition
  View ln;               // [N, C] output of the latest layernorm
  View qkv;              // [N, 3C]
  View att;              // [N, C]
  View branch;           // [N, C] output of the latest attention or MLP
  View act;              // [N, I]
  View logits;           // [B, V]
};

Workspace take_workspace(Arena& arena, const Gpt2Config& config, int batch, int length,
                         DType dtype) {
  const std::int64_t B = batch, T = length, N = B * T, C = config.n_embd;
  Workspace w;
  w.inputs = arena.take("token ids, positions, row lengths, masks", {2 * N + 2 * B}, DType::i32);
  w.ids = w.inputs.rows(0, N).reshaped({B, T});
  w.positions = w.inputs.rows(N, N).reshaped({B, T});
  w.past = w.inputs.rows(2 * N, B);
  w.first_key = w.inputs.rows(2 * N + B, B);
  w.x = arena.take("residual stream", {N, C}, dtype);
  w.x_next = arena.take("residual stream", {N, C}, dtype);
  w.ln = arena.take("layernorm output", {N, C}, dtype);
  w.qkv = arena.take("queries, keys, values", {N, 3 * C}, dtype);
  w.att = arena.take("attention outputs", {N, C}, dtype);
  w.branch = arena.take("branch output", {N, C}, dtype);
  w.act = arena.take("MLP activation", {N, config.inner()}, dtype);
  w.logits = arena.take("logits", {B, config.vocab_size});
  return w;
}

/// The matrices of a block as the products of a step read them.
struct BlockWeights {
  WeightLayout layout = WeightLayout::in_out;
  View c_attn;     // [C, 3C], or all of them transposed
  View attn_proj;  // [C, C]
  View c_fc;       // [C, I]
  View mlp_proj;   // [I, C]
};

BlockWeights stored_weights(const LayerParameters& layer) {
  return {.c_attn = layer.c_attn_weight,
          .attn_proj = layer.attn_proj_weight,
          .c_fc = layer.c_fc_weight,
          .mlp_proj = layer.mlp_proj_weight};
}

std::vector<BlockWeights> take_transposed(Arena& arena, const Gpt2Config& config,
                                          const Parameters& parameters) {
  std::vector<BlockWeights> blocks;
  for (int l = 0; l < config.n_layer; ++l) {
    BlockWeights weights = stored_weights(parameters.layer(l));
    weights.layout = WeightLayout::out_in;
    for (View* w : {&weights.c_attn, &weights.attn_proj, &weights.c_fc, &weights.mlp_proj}) {
      *w = arena.take("transposed weights", {w->shape()[1], w->shape()[0]}, w->dtype());
    }
    blocks.push_back(weights);
  }
  return blocks;
}

std::size_t cache_bytes(const Gpt2Config& config, int batch, int slots, DType dtype) {
  Arena count;
  take_caches(count, config, batch, slots, dtype);
  return count.taken();
}

std::size_t workspace_bytes(const Gpt2Config& config, int batch, int max_new, DType dtype) {
  Arena count;
  take_workspace(count, config, batch, max_new, dtype);
  return count.taken();
}

/// Moves the last of every `length` rows to the front: [B·T, C] becomes [B, C], in place.
View keep_last(Device& device, View x, std::int64_t batch, std::int64_t length) {
  // Row b comes from row b·T + T - 1, which no earlier row has overwritten.
  for (std::int64_t b = 0; b < batch; ++b) {
    const View from = x.rows(b * length + length - 1, 1);
    device.copy(x.rows(b, 1).bytes(), from.bytes(), from.size_bytes());
  }
  return x.rows(0, batch);
}

struct RowMove {
  int to, from;
};

/// Copies, one after the other, that bring row sources[r] to row r; row `spare` is free for use.
std::vector<RowMove> moves_of(std::span<const int> sources, int spare) {
  std::vector<RowMove> waiting, moves;
  for (std::size_t r = 0; r < sources.size(); ++r) {
    if (sources[r] != static_cast<int>(r)) waiting.push_back({static_cast<int>(r), sources[r]});
  }
  while (!waiting.empty()) {
    const auto is_free = [&](const RowMove& move) {  // nobody waits for what it overwrites
      return std::none_of(waiting.begin(), waiting.end(),
                          [&](const RowMove& other) { return other.from == move.to; });
    };
    const auto next = std::find_if(waiting.begin(), waiting.end(), is_free);
    if (next != waiting.end()) {
      moves.push_back(*next);
      waiting.erase(next);
      continue;
    }
    // All that are left go round in circles: one row steps aside.
    const int aside = waiting[0].to;
    moves.push_back({spare, aside});
    for (RowMove& move : waiting) {
      if (move.from == aside) move.from = spare;
    }
  }
  return moves;
}

}  // namespace

struct Gpt2Decoder::Impl {
  Device& device;
  Gpt2Config config;
  const Parameters& parameters;
  int batch, slots, max_new;
  DType dtype;  // of activations and caches
  Arena cache_memory;
  Arena workspace_memory;
  std::vector<LayerCache> caches;
  std::vector<std::int32_t> padding;  // [B]
  int length = 0;                     // slots used
  Buffer spare_row;                   // for rows that swap places, once there are any
  std::unique_ptr<Recording> step;    // one more token for each of `step_rows` rows, or null
  int step_rows = 0;
  Arena transposed_memory;
  std::vector<BlockWeights> transposed;  // what steps of few rows read, where there is room for it

  void check(int rows, std::size_t ids) const;
  Workspace upload_batch(int rows, int tokens, std::span<const std::int32_t> ids);
  void transpose_weights(int rows);
  BlockWeights weights_of(int layer, std::int64_t rows) const;
  void decode(int rows, const Workspace& w);
  void forward(int rows, int tokens, Workspace w);
};

Gpt2Decoder::Gpt2Decoder(Device& device, const Gpt2Config& config, const Parameters& parameters,
                         int batch, int slots, int max_new) {
  config.check();
  if (batch < 1 || slots < 1 || max_new < 1) {
    throw Error(Fault::internal, "decoder: no room for " + std::to_string(batch) + " rows of " +
                                     std::to_string(slots) + " slots, " + std::to_string(max_new) +
                                     " new tokens a call");
  }
  const DType dtype = device.activation_type(parameters.wte().dtype());
  impl_.reset(new Impl{device,
                       config,
                       parameters,
                       batch,
                       slots,
                       max_new,
                       dtype,
                       Arena(device, cache_bytes(config, batch, slots, dtype)),
                       Arena(device, workspace_bytes(config, batch, max_new, dtype)),
                       {},
                       {},
                       0,
                       {},
                       nullptr,
                       0,
                       {},
                       {}});
  impl_->caches = take_caches(impl_->cache_memory, config, batch, slots, dtype);
  reset({});
}
Gpt2Decoder::Gpt2Decoder(Gpt2Decoder&&) noexcept = default;
Gpt2Decoder::~Gpt2Decoder() = default;

void Gpt2Decoder::reset(std::span<const std::int32_t> padding) {
  if (padding.size() > static_cast<std::size_t>(impl_->batch)) {
    throw Error(Fault::internal, "decoder: padding of " + std::to_string(padding.size()) +
                                     " rows, room for " + std::to_string(impl_->batch));
  }
  impl_->padding.assign(static_cast<std::size_t>(impl_->batch), 0);
  std::copy(padding.begin(), padding.end(), impl_->padding.begin());
  impl_->length = 0;
}

int Gpt2Decoder::length() const {
  return impl_->length;
}

std::size_t Gpt2Decoder::bytes(const Gpt2Config& config, int batch, int slots, int max_new,
                               DType activations) {
  return cache_bytes(config, batch, slots, activations) +
         workspace_bytes(config, batch, max_new, activations);
}

View Gpt2Decoder::forward(int batch, std::span<const std::int32_t> ids) {
  impl_->check(batch, ids.size());
  const int tokens = static_cast<int>(ids.size()) / batch;
  const Workspace w = impl_->upload_batch(batch, tokens, ids);
  if (tokens == 1) {
    impl_->decode(batch, w);
  } else {
    impl_->forward(batch, tokens, w);
  }
  impl_->length += tokens;
  return w.logits;
}

void Gpt2Decoder::select_rows(std::span<const int> sources) {
  Impl& d = *impl_;
  if (sources.size() > static_cast<std::size_t>(d.batch) ||
      std::any_of(sources.begin(), sources.end(), [&](int r) { return r < 0 || r >= d.batch; })) {
    throw Error(Fault::internal, "decoder: selection of " + std::to_string(sources.size()) +
                                     " rows, room for " + std::to_string(d.batch));
  }
  const std::vector<RowMove> moves = moves_of(sources, d.batch);
  if (moves.empty()) return;
  const std::vector<std::int32_t> old_padding = d.padding;
  for (std::size_t r = 0; r < sources.size(); ++r) {
    d.padding[r] = old_padding[static_cast<std::size_t>(sources[r])];
  }
  const std::size_t row_bytes = d.caches[0].keys.rows(0, 1).size_bytes();
  if (d.spare_row.size() == 0) d.spare_row = Buffer(d.device, row_bytes);
  for (const LayerCache& cache : d.caches) {
    for (const View& rows : {cache.keys, cache.values}) {
      const auto row = [&](int r) {
        return r == d.batch ? d.spare_row.data() : static_cast<void*>(rows.rows(r, 1).bytes());
      };
      for (const RowMove& move : moves) d.device.copy(row(move.to), row(move.from), row_bytes);
    }
  }
}

void Gpt2Decoder::Impl::check(int rows, std::size_t ids) const {
  if (rows < 1 || rows > batch || ids == 0 || ids % static_cast<std::size_t>(rows) != 0 ||
      ids / static_cast<std::size_t>(rows) > static_cast<std::size_t>(max_new)) {
    throw Error(Fault::internal, "decoder: " + std::to_string(ids) + " ids for " +
                                     std::to_string(rows) + " rows, room for " +
                                     std::to_string(batch) + " rows of " + std::to_string(max_new));
  }
  const int end = length + static_cast<int>(ids) / rows;
  const int least = *std::min_element(padding.begin(), padding.begin() + rows);
  const int allowed = std::min(slots, config.n_positions + least);
  if (end > allowed) {
    throw Error(Fault::usage,
                "a sequence of " + std::to_string(end - least) + " tokens does not fit",
                {"the context of the model is " + std::to_string(config.n_positions) +
                 " tokens, the cache holds " + std::to_string(slots)},
                "ask for fewer tokens");
  }
}

Workspace Gpt2Decoder::Impl::upload_batch(int rows, int tokens, std::span<const std::int32_t> ids) {
  std::vector<std::int32_t> inputs(ids.begin(), ids.end());
  for (int b = 0; b < rows; ++b) {
    for (int t = 0; t < tokens; ++t) {
      const std::size_t i = static_cast<std::size_t>(b) * static_cast<std::size_t>(tokens) +
                            static_cast<std::size_t>(t);
      if (ids[i] < 0 || ids[i] >= config.vocab_size) {
        throw Error(Fault::bad_data,
                    "token id " + std::to_string(ids[i]) + " is not below " +
                        std::to_string(config.vocab_size),
                    {"at row " + std::to_string(b) + ", column " + std::to_string(t)});
      }
      inputs.push_back(std::max(0, length + t - padding[static_cast<std::size_t>(b)]));
    }
  }
  workspace_memory.restart();
  const Workspace w = take_workspace(workspace_memory, config, rows, tokens, dtype);
  inputs.insert(inputs.end(), static_cast<std::size_t>(rows), length);
  inputs.insert(inputs.end(), padding.begin(), padding.begin() + rows);
  device.copy_to_device(w.inputs.bytes(), inputs.data(), w.inputs.size_bytes());
  return w;
}

/// Bits do not depend on it: the copy takes what memory is left, and half of that at most,
/// as others come after it.
void Gpt2Decoder::Impl::transpose_weights(int rows) {
  if (!transposed.empty() || !device.prefers_out_in(rows)) return;
  Arena count;
  take_transposed(count, config, parameters);
  const std::optional<DeviceMemory> memory = device.memory();
  if (memory && count.taken() > memory->free / 2) return;
  transposed_memory = Arena(device, count.taken());
  transposed = take_transposed(transposed_memory, config, parameters);
  for (int l = 0; l < config.n_layer; ++l) {
    const BlockWeights from = stored_weights(parameters.layer(l));
    const BlockWeights& to = transposed[static_cast<std::size_t>(l)];
    device.transpose({.out = to.c_attn, .in = from.c_attn});
    device.transpose({.out = to.attn_proj, .in = from.attn_proj});
    device.transpose({.out = to.c_fc, .in = from.c_fc});
    device.transpose({.out = to.mlp_proj, .in = from.mlp_proj});
  }
}

BlockWeights Gpt2Decoder::Impl::weights_of(int layer, std::int64_t rows) const {
  if (transposed.empty() || !device.prefers_out_in(rows)) {
    return stored_weights(parameters.layer(layer));
  }
  return transposed[static_cast<std::size_t>(layer)];
}

/// All that changes from step to step lies in w.inputs, and the workspace of as many rows is always
/// the same memory: a recorded step fits every later one.
void Gpt2Decoder::Impl::decode(int rows, const Workspace& w) {
  if (step && step_rows == rows) {
    step->replay();
    return;
  }
  transpose_weights(rows);
  step = device.record([&] { forward(rows, 1, w); });
  step_rows = rows;
}

void Gpt2Decoder::Impl::forward(int rows, int tokens, Workspace w) {
  const Parameters& p = parameters;
  const std::int64_t B = rows, T = tokens, C = config.n_embd;
  const float eps = config.layer_norm_epsilon;

  // 1. x = wte[ids] + wpe[positions];  q, k, v = ln_1·c_attn of the first block
  device.embedding_forward({.out = w.x.reshaped({B, T, C}),
                            .ids = w.ids,
                            .positions = w.positions,
                            .wte = p.wte(),
                            .wpe = p.wpe()});
  device.layernorm_forward({.out = w.ln,
                            .x = w.x,
                            .weight = p.layer(0).ln_1_weight,
                            .bias = p.layer(0).ln_1_bias,
                            .eps = eps});
  const auto to_qkv = [&](int l) -> MatmulForward {
    const BlockWeights weights = weights_of(l, B * T);
    return {.out = w.qkv,  // [N, 3C]
            .x = w.ln,     // [N, C]
            .weight = weights.c_attn,
            .bias = p.layer(l).c_attn_bias,
            .layout = weights.layout};
  };
  const auto add_branch = [&](View ln_weight, View ln_bias) -> ResidualLayernormForward {
    return {.sum = w.x_next,
            .out = w.ln,
            .x = w.x,
            .branch = w.branch,
            .weight = ln_weight,
            .bias = ln_bias,
            .eps = eps};
  };
  device.matmul_forward(to_qkv(0));
  for (int l = 0; l < config.n_layer; ++l) {
    const LayerParameters& layer = p.layer(l);
    const LayerCache& cache = caches[static_cast<std::size_t>(l)];
    const bool last = l + 1 == config.n_layer;

    // 2. Attention over cached and new positions
    device.attention_cached({.out = w.att.reshaped({B, T, C}),
                             .k_cache = cache.keys.rows(0, B),
                             .v_cache = cache.values.rows(0, B),
                             .qkv = w.qkv.reshaped({B, T, 3 * C}),
                             .past = w.past,
                             .first_key = w.first_key,
                             .heads = config.n_head,
                             .scale = config.attention_scale(l)});
    if (last && T > 1) {
      // Only the logits after the last token are asked for, and past this point rows no longer
      // meet: the rest of the last block and the head see one position a row.
      w.x = keep_last(device, w.x, B, T);      // [B, C]
      w.att = keep_last(device, w.att, B, T);  // [B, C]
      w.x_next = w.x_next.rows(0, B);
      w.ln = w.ln.rows(0, B);
      w.branch = w.branch.rows(0, B);
      w.act = w.act.rows(0, B);
    }
    // 3. x = x + att·c_proj;  act = activation(ln_2·c_fc)
    const BlockWeights weights = weights_of(l, w.att.shape()[0]);
    device.matmul_forward({.out = w.branch,
                           .x = w.att,
                           .weight = weights.attn_proj,
                           .bias = layer.attn_proj_bias,
                           .layout = weights.layout});
    device.layernorm_matmul({.layernorm = add_branch(layer.ln_2_weight, layer.ln_2_bias),
                             .matmul = {.out = w.act,  // [N, I]
                                        .x = w.ln,
                                        .weight = weights.c_fc,
                                        .bias = layer.c_fc_bias,
                                        .layout = weights.layout,
                                        .activation = config.activation_function}});
    std::swap(w.x, w.x_next);
    // 4. x = x + act·c_proj;  q, k, v of the next block, or ln_f
    device.matmul_forward({.out = w.branch,
                           .x = w.act,
                           .weight = weights.mlp_proj,
                           .bias = layer.mlp_proj_bias,
                           .layout = weights.layout});
    if (last) {
      device.residual_layernorm_forward(add_branch(p.ln_f_weight(), p.ln_f_bias()));
    } else {
      const LayerParameters& next = p.layer(l + 1);
      device.layernorm_matmul(
          {.layernorm = add_branch(next.ln_1_weight, next.ln_1_bias), .matmul = to_qkv(l + 1)});
    }
    std::swap(w.x, w.x_next);
  }
  // 5. logits = ln_f·headᵀ
  device.matmul_forward({.out = w.logits,  // [B, V]
                         .x = w.ln,        // [B, C]
                         .weight = p.head(),
                         .layout = WeightLayout::out_in});
}

}  // namespace quire

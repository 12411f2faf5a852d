#include "engine/model/kv_cache.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include "base/error.h"
#include "engine/model/arena.h"
#include "engine/model/forward.h"

namespace quire {
namespace {

std::vector<KeyValueCache::Layer> take_caches(Arena& arena, const Gpt2Config& config, int batch,
                                              int slots, DType dtype) {
  const Shape shape = {batch, config.n_head, slots, config.head_size()};
  std::vector<KeyValueCache::Layer> caches(static_cast<std::size_t>(config.n_layer));
  for (KeyValueCache::Layer& cache : caches) {
    cache.keys = arena.take("cached keys", shape, dtype);
    cache.values = arena.take("cached values", shape, dtype);
  }
  return caches;
}

/// What one call works with, for B rows of T new tokens, N = B·T.
struct Workspace {
  View inputs;  // [2·N + 2·B] i32: what the host brings, in one piece: ids, positions, past, masks
  View past;    // [B] i32
  Activations a;
};

Workspace take_workspace(Arena& arena, const Gpt2Config& config, int batch, int length,
                         DType dtype) {
  const std::int64_t B = batch, T = length, N = B * T, C = config.n_embd;
  Workspace w;
  w.inputs = arena.take("token ids, positions, row lengths, masks", {2 * N + 2 * B}, DType::i32);
  w.past = w.inputs.rows(2 * N, B);
  Activations& a = w.a;
  a.batch = batch;
  a.length = length;
  a.ids = w.inputs.rows(0, N).reshaped({B, T});
  a.positions = w.inputs.rows(N, N).reshaped({B, T});
  a.first_key = w.inputs.rows(2 * N + B, B);
  LayerActivations layer;  // of all layers, as none is read again
  layer.x = a.x_final = arena.take("residual stream", {N, C}, dtype);
  layer.x_mid = arena.take("residual stream", {N, C}, dtype);
  a.ln = arena.take("layernorm output", {N, C}, dtype);
  layer.ln_1.out = layer.ln_2.out = a.ln_f.out = a.ln;
  layer.qkv = arena.take("queries, keys, values", {N, 3 * C}, dtype);
  layer.att = arena.take("attention outputs", {N, C}, dtype);
  a.branch = arena.take("branch output", {N, C}, dtype);
  layer.act = arena.take("MLP activation", {N, config.inner()}, dtype);
  a.logits = arena.take("logits", {B, config.vocab_size});
  a.layers.assign(static_cast<std::size_t>(config.n_layer), layer);
  return w;
}

std::vector<ByRole<View>> take_transposed(Arena& arena, const Gpt2Config& config,
                                          const Parameters& parameters) {
  std::vector<ByRole<View>> layers(static_cast<std::size_t>(config.n_layer));
  for (int l = 0; l < config.n_layer; ++l) {
    for (const Role product : kProducts) {
      const View w = parameters.layer(l)[product].weight;
      layers[static_cast<std::size_t>(l)][product] =
          arena.take("transposed weights", {w.shape()[1], w.shape()[0]}, w.dtype());
    }
  }
  return layers;
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
  KeyValueCache cache;
  std::vector<std::int32_t> padding;  // [B]
  int length = 0;                     // slots used
  Buffer spare_row;                   // for rows that swap places, once there are any
  std::unique_ptr<Recording> step;    // one more token for each of `step_rows` rows, or null
  int step_rows = 0;
  Arena transposed_memory;
  std::vector<ByRole<View>> transposed;  // what steps of few rows read, where there is room for it

  void check(int rows, std::size_t ids) const;
  Activations upload_batch(int rows, int tokens, std::span<const std::int32_t> ids);
  void transpose_weights(int rows);
  void decode(int rows, Activations& a);
  void forward(Activations& a);
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
  impl_->cache.layers = take_caches(impl_->cache_memory, config, batch, slots, dtype);
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
  Activations a = impl_->upload_batch(batch, tokens, ids);
  if (tokens == 1) {
    impl_->decode(batch, a);
  } else {
    impl_->forward(a);
  }
  impl_->length += tokens;
  return a.logits;
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
  const std::size_t row_bytes = d.cache.layers[0].keys.rows(0, 1).size_bytes();
  if (d.spare_row.size() == 0) d.spare_row = Buffer(d.device, row_bytes);
  for (const KeyValueCache::Layer& cache : d.cache.layers) {
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

Activations Gpt2Decoder::Impl::upload_batch(int rows, int tokens,
                                            std::span<const std::int32_t> ids) {
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
  Workspace w = take_workspace(workspace_memory, config, rows, tokens, dtype);
  inputs.insert(inputs.end(), static_cast<std::size_t>(rows), length);
  inputs.insert(inputs.end(), padding.begin(), padding.begin() + rows);
  device.copy_to_device(w.inputs.bytes(), inputs.data(), w.inputs.size_bytes());
  cache.past = w.past;
  return std::move(w.a);
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
    for (const Role product : kProducts) {
      device.transpose({.out = transposed[static_cast<std::size_t>(l)][product],
                        .in = parameters.layer(l)[product].weight});
    }
  }
}

/// All that changes from step to step lies in its inputs, and the workspace of as many rows is always
/// the same memory: a recorded step fits every later one.
void Gpt2Decoder::Impl::decode(int rows, Activations& a) {
  if (step && step_rows == rows) {
    step->replay();
    return;
  }
  transpose_weights(rows);
  step = device.record([&] { forward(a); });
  step_rows = rows;
}

void Gpt2Decoder::Impl::forward(Activations& a) {
  const Pass pass = {.device = device,
                     .config = config,
                     .parameters = parameters,
                     .a = a,
                     .cache = &cache,
                     .transposed = transposed};
  forward_hidden(pass);
  pass.multiply(&Device::matmul_forward, {.out = a.logits,  // [B, V]
                                          .x = a.ln,        // [B, C]
                                          .weight = parameters.head(),
                                          .layout = WeightLayout::out_in});
}

}  // namespace quire

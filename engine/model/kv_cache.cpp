#include "engine/model/kv_cache.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include "base/error.h"
#include "engine/model/arena.h"
#include "engine/model/cache_blocks.h"
#include "engine/model/forward.h"

namespace quire {
namespace {

/// That slots of a row take.
std::int64_t blocks_of(std::int64_t slots) {
  return (slots + kCacheBlock - 1) / kCacheBlock;
}

View take_cache(Arena& arena, const Gpt2Config& config, int batch, int slots, DType dtype) {
  return arena.take("cached keys and values",
                    {std::int64_t{2} * config.n_layer * config.n_head, std::int64_t{batch} * slots,
                     config.head_size()},
                    dtype);
}

/// What one call works with, for B rows of N new tokens together, M blocks a row.
struct Workspace {
  View inputs;  // [2·N + B + B·M] i32 that the host brings in one piece: ids, positions, these two
  View past, blocks;  // [B], [B, M] i32
  Activations a;
};

Workspace take_workspace(Arena& arena, const Gpt2Config& config, std::int64_t B, std::int64_t N,
                         int slots, DType dtype) {
  const std::int64_t C = config.n_embd, M = blocks_of(slots);
  Workspace w;
  w.inputs =
      arena.take("token ids, positions, row lengths, blocks", {2 * N + B + B * M}, DType::i32);
  w.past = w.inputs.rows(2 * N, B);
  w.blocks = w.inputs.rows(2 * N + B, B * M).reshaped({B, M});
  Activations& a = w.a;
  a.batch = 1;
  a.length = static_cast<int>(N);
  a.ids = w.inputs.rows(0, N).reshaped({1, N});
  a.positions = w.inputs.rows(N, N).reshaped({1, N});
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

/// Transposed as well, unless the arena only counts. What lies so already is taken as it is.
std::vector<ByRole<Weight>> take_transposed(Arena& arena, Device& device, const Gpt2Config& config,
                                            const Parameters& parameters) {
  std::vector<ByRole<Weight>> layers(static_cast<std::size_t>(config.n_layer));
  for (int l = 0; l < config.n_layer; ++l) {
    for (const Role product : kProducts) {
      const Weight w = parameters.matrix(l, product);
      Weight& taken = layers[static_cast<std::size_t>(l)][product];
      if (w.layout == WeightLayout::out_in) {
        taken = w;
        continue;
      }
      const View out = arena.take("transposed weights", {w.out(), w.in()}, w.dtype());
      if (out) device.transpose({.out = out, .in = w.view()});
      taken = {out, WeightLayout::out_in};
    }
  }
  return layers;
}

std::size_t cache_bytes(const Gpt2Config& config, int batch, int slots, DType dtype) {
  Arena count;
  take_cache(count, config, batch, slots, dtype);
  return count.taken();
}

std::size_t workspace_bytes(const Gpt2Config& config, int batch, int slots, int max_new,
                            DType dtype) {
  Arena count;
  take_workspace(count, config, batch, std::int64_t{batch} * max_new, slots, dtype);
  return count.taken();
}

bool is_copy(const DecoderRow& row) {
  return row.ids.empty();
}

}  // namespace

struct Gpt2Decoder::Impl {
  Device& device;
  Gpt2Config config;
  const Parameters& parameters;
  int batch, slots, max_new;
  DType dtype;  // of activations and caches
  Multiply precision;
  Arena cache_memory;
  Arena workspace_memory;
  CacheBlocks blocks;
  std::vector<int> lengths;  // of each row: slots in use
  KeyValueCache cache = {};
  std::map<int, DecodeStep> steps = {};  // by the number of rows
  Arena transposed_memory = {};
  std::vector<ByRole<Weight>> transposed = {};  // what steps of few rows read, if there is room

  [[noreturn]] void refuse(std::size_t rows, std::size_t ids) const;
  void check(std::span<const DecoderRow> rows) const;
  Activations upload(std::span<const DecoderRow> rows);
  void transpose_weights(int rows);
  void decode(int rows, const Activations& a);
  void forward(Activations& a);
};

Gpt2Decoder::Gpt2Decoder(Device& device, const Gpt2Config& config, const Parameters& parameters,
                         int batch, int slots, int max_new) {
  config.check();
  if (batch < 1 || slots < 1 || max_new < 1) {
    throw Error(Fault::internal,
                fmt::format("decoder: no room for {} rows of {} slots, {} new tokens a call", batch,
                            slots, max_new));
  }
  const DType dtype = device.activation_type(parameters.table().dtype());
  impl_.reset(new Impl{device, config, parameters, batch, slots, max_new, dtype,
                       inference_precision(device, config, parameters),
                       Arena(device, cache_bytes(config, batch, slots, dtype)),
                       Arena(device, workspace_bytes(config, batch, slots, max_new, dtype)),
                       CacheBlocks(batch, slots),
                       std::vector<int>(static_cast<std::size_t>(batch))});
  impl_->cache.all = take_cache(impl_->cache_memory, config, batch, slots, dtype);
}
Gpt2Decoder::Gpt2Decoder(Gpt2Decoder&&) noexcept = default;
Gpt2Decoder::~Gpt2Decoder() = default;

void Gpt2Decoder::reset() {
  for (int row = 0; row < impl_->batch; ++row) clear_row(row);
}

void Gpt2Decoder::clear_row(int row) {
  impl_->lengths.at(static_cast<std::size_t>(row)) = 0;
  impl_->blocks.clear(row);
}

int Gpt2Decoder::length(int row) const {
  return impl_->lengths.at(static_cast<std::size_t>(row));
}

std::size_t Gpt2Decoder::bytes(const Gpt2Config& config, int batch, int slots, int max_new,
                               DType activations) {
  return cache_bytes(config, batch, slots, activations) +
         workspace_bytes(config, batch, slots, max_new, activations);
}

View Gpt2Decoder::forward(int batch, std::span<const std::int32_t> ids) {
  std::vector<DecoderRow> rows(static_cast<std::size_t>(std::max(batch, 0)));
  const std::size_t T = rows.empty() ? 0 : ids.size() / rows.size();
  for (std::size_t b = 0; b < rows.size(); ++b) {
    rows[b] = {static_cast<int>(b), ids.subspan(b * T, T)};
  }
  if (rows.size() * T != ids.size()) impl_->refuse(rows.size(), ids.size());
  return forward(rows);
}

View Gpt2Decoder::forward(std::span<const DecoderRow> rows) {
  Impl& d = *impl_;
  d.check(rows);
  Activations a = d.upload(rows);
  const KeyValueCache::Group& first = d.cache.groups[0];
  if (first.tokens_a_row == 1 && first.rows == std::ssize(rows)) {
    d.parameters.decoding();
    d.decode(static_cast<int>(rows.size()), a);
  } else {
    d.forward(a);
  }
  for (const DecoderRow& row : rows) {
    d.lengths[static_cast<std::size_t>(row.row)] += static_cast<int>(row.ids.size());
  }
  // The logits of rows that brought tokens move to where these are in the call, from the last on.
  auto source = std::ssize(rows) - std::count_if(rows.begin(), rows.end(), is_copy) - 1;
  for (auto b = std::ssize(rows) - 1; b > source; --b) {
    const View from = a.logits.rows(source, 1);
    d.device.copy(a.logits.rows(b, 1).bytes(), from.bytes(), from.size_bytes());
    if (!is_copy(rows[static_cast<std::size_t>(b)])) --source;
  }
  for (std::size_t b = 1; b < rows.size(); ++b) {
    if (is_copy(rows[b])) copy_row(rows[b].row, rows[b - 1].row);
  }
  return a.logits;
}

void Gpt2Decoder::copy_row(int to, int from) {
  if (to == from) return;
  Impl& d = *impl_;
  const int used = length(from);
  d.lengths.at(static_cast<std::size_t>(to)) = used;
  d.blocks.share(to, from, used);
  const int own = used % kCacheBlock;
  if (own == 0) return;
  const auto last = static_cast<std::size_t>(used / kCacheBlock);
  const View& all = d.cache.all;  // [2·L·H, N, D]
  const View head = all.rows(0, 1).reshaped({all.shape()[1], all.shape()[2]});
  const View source = head.rows(d.blocks[from][last], own);
  d.device.copy_pieces(head.rows(d.blocks[to][last], own).bytes(), source.bytes(),
                       source.size_bytes(), static_cast<std::size_t>(all.shape()[0]),
                       head.size_bytes());
}

void Gpt2Decoder::Impl::refuse(std::size_t rows, std::size_t ids) const {
  throw Error(Fault::internal, fmt::format("decoder: {} ids for {} rows, room for {} rows of {}",
                                           ids, rows, batch, max_new));
}

void Gpt2Decoder::Impl::check(std::span<const DecoderRow> rows) const {
  std::size_t ids = 0;
  std::set<int> named;
  for (const DecoderRow& row : rows) {
    ids += row.ids.size();
    named.insert(row.row);
  }
  if (rows.empty() || is_copy(rows[0]) || named.size() != rows.size() || *named.begin() < 0 ||
      *named.rbegin() >= batch || ids > static_cast<std::size_t>(std::int64_t{batch} * max_new)) {
    refuse(rows.size(), ids);
  }
  for (std::size_t b = 0; b < rows.size(); ++b) {
    const std::size_t end =
        static_cast<std::size_t>(lengths[static_cast<std::size_t>(rows[b].row)]) +
        rows[b].ids.size();
    if (end > static_cast<std::size_t>(std::min(slots, config.n_positions))) {
      throw Error(Fault::usage, fmt::format("a sequence of {} tokens does not fit", end),
                  {fmt::format("the context of the model is {} tokens, the cache holds {}",
                               config.n_positions, slots)},
                  "ask for fewer tokens");
    }
    check_ids("token id", rows[b].ids, config.vocab_size, rows[b].ids.size(), false, b);
  }
}

Activations Gpt2Decoder::Impl::upload(std::span<const DecoderRow> rows) {
  std::vector<std::int32_t> ids, positions, past, tables;
  const auto M = static_cast<std::size_t>(blocks_of(slots));
  cache.groups.clear();
  for (const DecoderRow& row : rows) {
    if (is_copy(row)) continue;
    const auto T = std::ssize(row.ids);
    if (cache.groups.empty() || cache.groups.back().tokens_a_row != T) {
      cache.groups.push_back({.first_row = std::ssize(past),
                              .rows = 0,
                              .first_token = std::ssize(ids),
                              .tokens_a_row = T});
    }
    ++cache.groups.back().rows;
    past.push_back(lengths[static_cast<std::size_t>(row.row)]);
    blocks.reserve(row.row, past.back() + static_cast<int>(T));
    tables.insert(tables.end(), blocks[row.row].begin(), blocks[row.row].end());
    tables.resize(past.size() * M);
    for (std::int32_t t = 0; t < T; ++t) positions.push_back(past.back() + t);
    ids.insert(ids.end(), row.ids.begin(), row.ids.end());
  }
  workspace_memory.restart();
  Workspace w =
      take_workspace(workspace_memory, config, std::ssize(rows), std::ssize(ids), slots, dtype);
  past.resize(rows.size());  // those of copies are not read
  tables.resize(rows.size() * M);
  for (const auto& part : {positions, past, tables})
    ids.insert(ids.end(), part.begin(), part.end());
  device.copy_to_device(w.inputs.bytes(), ids.data(), w.inputs.size_bytes());
  cache.past = w.past;
  cache.blocks = w.blocks;
  return std::move(w.a);
}

/// Bits do not depend on it: the copy takes what memory is left, and half of that at most,
/// as others come after it.
void Gpt2Decoder::Impl::transpose_weights(int rows) {
  if (!transposed.empty() || !device.prefers_out_in(rows)) return;
  Arena count;
  take_transposed(count, device, config, parameters);
  const std::optional<DeviceMemory> memory = device.memory();
  if (memory && count.taken() > memory->free / 2) return;
  transposed_memory = Arena(device, count.taken());
  transposed = take_transposed(transposed_memory, device, config, parameters);
}

/// All that changes from step to step lies in its inputs, and the workspace of as many rows is
/// always the same memory: a step fits every later one.
void Gpt2Decoder::Impl::decode(int rows, const Activations& a) {
  const auto [at, is_new] = steps.try_emplace(rows);
  if (is_new) {
    transpose_weights(rows);
    at->second.ops = [this, of_step = a]() mutable { forward(of_step); };
  }
  device.decode_step(at->second);
}

void Gpt2Decoder::Impl::forward(Activations& a) {
  const Pass pass = {.device = device,
                     .config = config,
                     .parameters = parameters,
                     .a = a,
                     .precision = precision,
                     .cache = &cache,
                     .transposed = transposed};
  forward_hidden(pass);
  pass.multiply(&Device::matmul_forward, {.out = a.logits.rows(0, a.ln.shape()[0]),
                                          .x = a.ln,  // [B, C] of the rows that bring tokens
                                          .weight = parameters.decoding_head()});
}

}  // namespace quire

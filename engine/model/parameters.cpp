#include "engine/model/parameters.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numbers>

#include "base/error.h"
#include "base/parallel.h"
#include "engine/model/elements.h"

namespace quire {
namespace {

constexpr std::int64_t kTensorAlignment = 64;  // bytes

std::int64_t padded_bytes(const NamedParameter& parameter, int vocab_multiple, DType dtype) {
  const std::int64_t count = padded_shape(parameter, vocab_multiple).count();
  return round_up(count * size_of(dtype), kTensorAlignment);
}

/// Fills `values` with numbers 0, 1, … of the stream, normally distributed: Box and Muller, "A note
/// on the generation of random normal deviates" (1958).
/// Four numbers of the counter give four draws.
/// Elements `first`, a multiple of four, to `end` of a tensor that is drawn from the stream.
void draw_normal(std::vector<float>& values, std::size_t first, std::size_t end, RandomKey key,
                 float deviation) {
  constexpr float kTwoPi = 2.0f * std::numbers::pi_v<float>;
  for (std::size_t i = first; i < end; i += 4) {
    const std::array<std::uint32_t, 4> bits = random_block(key, i / 4);
    std::array<float, 4> draws;
    for (std::size_t pair = 0; pair < 4; pair += 2) {
      // In (0, 1], so that the logarithm is finite; the largest draw is 6.7 deviations.
      const float u = static_cast<float>((bits[pair] + 1.0) * 0x1p-32);
      const float angle = kTwoPi * ((bits[pair + 1] >> 8) * 0x1p-24f);
      const float radius = deviation * std::sqrt(-2.0f * std::log(u));
      draws[pair] = radius * std::cos(angle);
      draws[pair + 1] = radius * std::sin(angle);
    }
    const std::size_t used = std::min<std::size_t>(4, end - i);
    std::copy_n(draws.begin(), used, values.begin() + static_cast<std::ptrdiff_t>(i));
  }
}

/// All of them, alike with any number of threads: 20 ns each, 16 s for 774M with one.
void draw_normal(std::vector<float>& values, RandomKey key, float deviation) {
  constexpr std::size_t kPart = std::size_t{1} << 16;
  parallel_for(/*threads=*/0, (values.size() + kPart - 1) / kPart, [&](std::size_t part) {
    draw_normal(values, part * kPart, std::min(values.size(), (part + 1) * kPart), key, deviation);
  });
}

struct Extent {
  std::int64_t size = 0;
  const char* field = nullptr;  // of the config
};

Extent extent_of(const Gpt2Config& config, Width width) {
  const std::int64_t C = config.n_embd;
  switch (width) {
    case Width::C:
      return {C, "n_embd"};
    case Width::C3:
      return {3 * C, "3·n_embd"};
    case Width::I:
      return {config.inner(), "n_inner"};
    case Width::none:
      break;
  }
  return {};
}

Shape shape_of(const Extent& in, const Extent& out) {
  return in.field == nullptr ? Shape{out.size} : Shape{in.size, out.size};
}

ParameterSet matrices_of(const std::vector<NamedParameter>& list) {
  ParameterSet matrices;
  for (const NamedParameter& parameter : list) matrices.push_back(parameter.is_matrix);
  return matrices;
}

/// `weights`, which must have the shapes of the list where they do not lie as [out, in].
const std::vector<ConstView>& fitting(const std::vector<NamedParameter>& list,
                                      const std::vector<ConstView>& weights,
                                      const std::vector<Weight>& out_in = {}) {
  if (weights.size() != list.size()) {
    throw Error(Fault::internal, fmt::format("parameters: {} tensors, the config has {}",
                                             weights.size(), list.size()));
  }
  for (std::size_t i = 0; i < list.size(); ++i) {
    if (weights[i].shape() == list[i].shape || (!out_in.empty() && out_in[i])) continue;
    throw Error(Fault::internal,
                fmt::format("parameters: {} is {}, the config expects {}", list[i].name,
                            weights[i].shape().to_string(), list[i].shape.to_string()));
  }
  return weights;
}

}  // namespace

std::int64_t round_up(std::int64_t size, std::int64_t multiple) {
  return (size + multiple - 1) / multiple * multiple;
}

Shape padded_shape(const NamedParameter& parameter, int vocab_multiple) {
  if (!parameter.is_head) return parameter.shape;
  return {round_up(parameter.shape[0], vocab_multiple), parameter.shape[1]};
}

void clear_padding(Device& device, const NamedParameter& parameter, void* tensor, DType dtype,
                   int vocab_multiple) {
  const View own(tensor, dtype, parameter.shape);
  const View all(tensor, dtype, padded_shape(parameter, vocab_multiple));
  if (all.count() == own.count()) return;
  device.fill_zero(static_cast<std::byte*>(tensor) + own.size_bytes(),
                   all.size_bytes() - own.size_bytes());
}

std::string module_name(int layer, Role role) {
  return "transformer.h." + std::to_string(layer) + "." + entry_of(role).name;
}

Shape weight_shape(const Gpt2Config& config, Role role) {
  return shape_of(extent_of(config, entry_of(role).in), extent_of(config, entry_of(role).out));
}

std::size_t weight_index(int layer, Role role) {
  // Two tables, then two tensors for each module.
  return 2 + 2 * (kRoles.size() * layer + static_cast<std::size_t>(role));
}

std::vector<NamedParameter> parameter_list(const Gpt2Config& config) {
  std::vector<NamedParameter> list;
  const auto add = [&](const std::string& name, const Extent& in, const Extent& out) {
    NamedParameter& added = list.emplace_back();
    added.name = name;
    added.shape = shape_of(in, out);
    added.decays = added.is_matrix = added.shape.rank() == 2;
    if (added.is_matrix) added.extents.emplace_back(in.field);
    added.extents.emplace_back(out.field);
  };
  const Extent channels = extent_of(config, Width::C);
  const Extent vocabulary = {config.vocab_size, "vocab_size"};
  add("transformer.wte.weight", vocabulary, channels);
  list.back().is_head = config.tie_word_embeddings;
  add("transformer.wpe.weight", {config.n_positions, "n_positions"}, channels);
  for (int layer = 0; layer < config.n_layer; ++layer) {
    for (const RoleEntry& role : kRoles) {
      const std::string module = fmt::format("transformer.h.{}.{}", layer, role.name);
      add(module + ".weight", extent_of(config, role.in), extent_of(config, role.out));
      add(module + ".bias", {}, extent_of(config, role.out));
    }
  }
  add("transformer.ln_f.weight", {}, channels);
  add("transformer.ln_f.bias", {}, channels);
  if (!config.tie_word_embeddings) {
    add("lm_head.weight", vocabulary, channels);
    list.back().is_head = true;
  }
  return list;
}

ParameterSet trainable_parameters(const Gpt2Config& config, int frozen_layers) {
  ParameterSet trainable(parameter_list(config).size(), true);
  if (frozen_layers > 0) {
    std::fill_n(trainable.begin(), weight_index(frozen_layers, Role::ln_1), false);
  }
  return trainable;
}

std::size_t bytes_of_block(const Gpt2Config& config) {
  const std::vector<NamedParameter> list = parameter_list(config);
  std::size_t bytes = 0;
  for (std::size_t i = weight_index(0, Role::ln_1); i < weight_index(1, Role::ln_1); ++i) {
    bytes += padded_bytes(list[i], /*vocab_multiple=*/1, DType::f32);
  }
  return bytes;
}

std::size_t NamedTensors::bytes(const std::vector<NamedParameter>& list, const ParameterSet& held,
                                int parts, int vocab_multiple, DType dtype) {
  std::int64_t bytes = 0;
  for (std::size_t i = 0; i < list.size(); ++i) {
    if (held.empty() || held[i]) bytes += padded_bytes(list[i], vocab_multiple, dtype);
  }
  return round_up(bytes, kTensorAlignment * parts);
}

NamedTensors::NamedTensors(Device& device, std::vector<NamedParameter> list,
                           const ParameterSet& held, int parts, DType dtype)
    : names_(std::move(list)) {
  const int multiple = device.vocab_multiple();
  const std::size_t size = bytes(names_, held, parts, multiple, dtype);
  if (size > 0) buffer_ = Buffer(device, size);
  std::byte* next = static_cast<std::byte*>(buffer_.data());
  for (std::size_t i = 0; i < names_.size(); ++i) {
    const bool has_memory = held.empty() || held[i];
    tensors_.emplace_back(has_memory ? next : nullptr, dtype, names_[i].shape);
    if (!has_memory) continue;
    clear_padding(device, names_[i], next, dtype, multiple);
    next += padded_bytes(names_[i], multiple, dtype);
  }
}

std::size_t NamedTensors::index_of(const std::string& name) const {
  const auto found = std::ranges::find(names_, name, &NamedParameter::name);
  if (found == names_.end()) throw Error(Fault::internal, "parameters: there is no " + name);
  return found - names_.begin();
}

View NamedTensors::all() const {
  return {static_cast<float*>(buffer_.data()),
          {static_cast<std::int64_t>(buffer_.size() / sizeof(float))}};
}

void NamedTensors::fill_zero(Device& device) const {
  if (buffer_.size() > 0) return device.fill_zero(buffer_.data(), buffer_.size());
  for (const View& tensor : tensors_) {
    if (tensor) device.fill_zero(tensor.bytes(), tensor.size_bytes());
  }
}

Parameters::Parameters(NamedTensors own, const Gpt2Config& config, std::vector<ConstView> weights,
                       int vocab_multiple)
    : NamedTensors(std::move(own)),
      TensorsByRole(config, weights, vocab_multiple),
      weights_(std::move(weights)) {}

Parameters::Parameters(Device& device, const Gpt2Config& config)
    : NamedTensors(device, parameter_list(config)),
      TensorsByRole(config, {tensors().begin(), tensors().end()}, device.vocab_multiple()),
      weights_(tensors().begin(), tensors().end()) {}

Parameters::Parameters(const Gpt2Config& config, std::vector<ConstView> weights,
                       std::shared_ptr<void> owner, int vocab_multiple, std::vector<View> writable)
    : NamedTensors(parameter_list(config), std::move(writable)),
      TensorsByRole(config, fitting(names(), weights), vocab_multiple),
      weights_(std::move(weights)),
      owner_(std::move(owner)) {}

Parameters::Parameters(const Gpt2Config& config, std::vector<ConstView> weights,
                       const std::vector<Weight>& out_in, std::shared_ptr<void> owner,
                       int vocab_multiple)
    : NamedTensors(parameter_list(config), {}),
      TensorsByRole(config, fitting(names(), weights, out_in), vocab_multiple, out_in),
      weights_(std::move(weights)),
      in_blocks_(std::ranges::any_of(
          out_in, [](const Weight& w) { return w && quire::in_blocks(w.format); })),
      out_in_(std::ranges::any_of(out_in, [](const Weight& w) { return bool(w); })),
      owner_(std::move(owner)) {}

const std::vector<ConstView>& Parameters::weights() const {
  if (out_in_) throw Error(Fault::internal, "parameters: some matrices lie as [out, in]");
  return weights_;
}

ParameterGradients::ParameterGradients(Device& device, const Gpt2Config& config,
                                       const ParameterSet& held, int parts)
    : NamedTensors(device, parameter_list(config), held, parts),
      TensorsByRole(config, tensors(), device.vocab_multiple()) {}

std::size_t Parameters::bytes_of_matrices(const Gpt2Config& config, DType dtype,
                                          int vocab_multiple) {
  const std::vector<NamedParameter> list = parameter_list(config);
  return NamedTensors::bytes(list, matrices_of(list), 1, vocab_multiple, dtype);
}

Parameters Parameters::with_matrices(Device& device, const Gpt2Config& config,
                                     const Parameters& masters, DType dtype) {
  NamedTensors matrices(device, masters.names(), matrices_of(masters.names()), 1, dtype);
  std::vector<ConstView> weights = masters.weights();
  for (std::size_t i = 0; i < weights.size(); ++i) {
    if (const View& matrix = matrices.tensors()[i]) weights[i] = matrix;
  }
  return {std::move(matrices), config, std::move(weights), device.vocab_multiple()};
}

template <class AnyView>
TensorsByRole<AnyView>::TensorsByRole(const Gpt2Config& config, const std::vector<AnyView>& tensors,
                                      int vocab_multiple, const std::vector<Matrix>& out_in)
    : wpe_(tensors[1]), layers_(config.n_layer), matrices_(config.n_layer) {
  const auto matrix_at = [&](std::size_t i, WeightLayout layout) -> Matrix {
    if (!out_in.empty() && out_in[i]) return out_in[i];
    return {tensors[i], layout};
  };
  table_ = matrix_at(0, WeightLayout::out_in);
  const std::size_t head = config.tie_word_embeddings ? 0 : tensors.size() - 1;
  padded_head_ = head_ = matrix_at(head, WeightLayout::out_in);
  if (const AnyView& plain = tensors[head]) {
    padded_head_ = {AnyView(plain.bytes(), plain.dtype(),
                            {round_up(config.vocab_size, vocab_multiple), config.n_embd}),
                    WeightLayout::out_in};
  }
  auto next = tensors.begin() + 2;
  for (ByRole<WeightAndBias<AnyView>>& layer : layers_) {
    for (auto& module : layer.all) module = {.weight = *next++, .bias = *next++};
  }
  ln_f_ = {.weight = *next++, .bias = *next++};
  for (int layer = 0; layer < config.n_layer; ++layer) {
    for (const Role product : kProducts) {
      matrices_[layer][product] = matrix_at(weight_index(layer, product), WeightLayout::in_out);
    }
  }
}
template <class AnyView>
AnyView TensorsByRole<AnyView>::wte() const {
  if constexpr (std::is_same_v<AnyView, View>) {
    return table_.view;
  } else {
    return table_.view();
  }
}
template class TensorsByRole<ConstView>;
template class TensorsByRole<View>;

Parameters initialize_parameters(Device& device, const Gpt2Config& config, std::uint64_t seed) {
  Parameters parameters(device, config);
  // Each block adds two branches to the residual stream; scaling their last matrices keeps the
  // stream's variance at depth 2L what it would be at depth 1 (the GPT-2 paper, section 2.3).
  const float projection = 1.0f / std::sqrt(2.0f * config.n_layer);
  for (std::size_t i = 0; i < parameters.names().size(); ++i) {
    const NamedParameter& named = parameters.names()[i];
    std::vector<float> values(named.shape.count(), 0.0f);
    if (named.is_matrix) {
      const bool scaled = named.name.ends_with(".c_proj.weight");
      draw_normal(values, {.seed = seed, .stream = i},
                  config.initializer_range * (scaled ? projection : 1.0f));
    } else if (named.name.ends_with(".weight")) {
      std::fill(values.begin(), values.end(), 1.0f);  // a layernorm's
    }
    upload(device, values, parameters.tensors()[i]);
  }
  return parameters;
}

}  // namespace quire

#include "engine/model/lora.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/parallel.h"
#include "base/random.h"
#include "engine/model/elements.h"

namespace quire {
namespace {

constexpr std::uint64_t kAdapterStream = 0x6C6F7261;  // "lora", apart from the base's streams

bool matches(const std::string& target, const std::string& name) {
  return name == target || name.ends_with("." + target);
}

void require(bool holds, const std::string& what, const std::string& wanted) {
  if (!holds) throw Error(Fault::usage, what, {wanted});
}

void check_numbers(const LoraConfig& lora) {
  require(lora.r >= 1, fmt::format("the adapter's rank r is {}", lora.r), "it must be at least 1");
  require(std::isfinite(lora.lora_alpha) && lora.lora_alpha > 0,
          "`lora_alpha` is "_named + std::to_string(lora.lora_alpha), "it must be above 0");
  require(lora.lora_dropout >= 0 && lora.lora_dropout < 1,
          "`lora_dropout` is "_named + std::to_string(lora.lora_dropout),
          "it must be at least 0 and below 1");
}

void check_targets(const Gpt2Config& config, const LoraConfig& lora) {
  for (const int layer : lora.layers_to_transform) {
    require(layer >= 0 && layer < config.n_layer, fmt::format("the adapter has a block {}", layer),
            fmt::format("the model has blocks 0 to {}", config.n_layer - 1));
  }
  require(!lora.target_modules.empty(), "`target_modules` names no module"_named,
          "c_attn, c_proj and c_fc can be adapted");
  for (const std::string& target : lora.target_modules) {
    bool known = false;
    for (int layer = 0; layer < config.n_layer; ++layer) {
      for (const Role product : kProducts) known |= matches(target, module_name(layer, product));
    }
    require(known, "there is no module '" + target + "' to adapt",
            "those of a block: c_attn, c_fc, c_proj (both), attn.c_proj, mlp.c_proj");
  }
}

}  // namespace

float LoraConfig::scale() const {
  const float rank = r;
  return lora_alpha / (use_rslora ? std::sqrt(rank) : rank);
}

bool is_adapted(const LoraConfig& lora, int layer, Role product) {
  const std::vector<int>& layers = lora.layers_to_transform;
  if (!layers.empty() && std::ranges::count(layers, layer) == 0) return false;
  const std::string name = module_name(layer, product);
  return std::ranges::any_of(lora.target_modules,
                             [&](const std::string& target) { return matches(target, name); });
}

int first_adapted_layer(const Gpt2Config& config, const LoraConfig& lora) {
  int layer = 0;
  const auto adapted = [&](Role product) { return is_adapted(lora, layer, product); };
  while (layer < config.n_layer && std::ranges::none_of(kProducts, adapted)) ++layer;
  return layer;
}

std::vector<NamedParameter> adapter_list(const Gpt2Config& config, const LoraConfig& lora) {
  check_numbers(lora);
  check_targets(config, lora);
  std::vector<NamedParameter> list;
  for (int layer = 0; layer < config.n_layer; ++layer) {
    for (const Role product : kProducts) {
      if (!is_adapted(lora, layer, product)) continue;
      const Shape weight = weight_shape(config, product);  // [K, N]
      const std::string name = "base_model.model." + module_name(layer, product);
      for (const auto& [end, shape] : {std::pair(".lora_A.weight", Shape{lora.r, weight[0]}),
                                       std::pair(".lora_B.weight", Shape{weight[1], lora.r})}) {
        list.push_back({name + end, shape, /*decays=*/true, /*is_matrix=*/true});
      }
    }
  }
  return list;
}

LoraAdapter::LoraAdapter(Device& device, const Gpt2Config& config, const LoraConfig& lora,
                         int parts)
    : NamedTensors(device, adapter_list(config, lora), {}, parts),
      lora_(lora),
      pairs_(config.n_layer) {
  auto next = tensors().begin();
  for (int layer = 0; layer < config.n_layer; ++layer) {
    for (const Role product : kProducts) {  // the order of adapter_list()
      if (!is_adapted(lora, layer, product)) continue;
      pairs_[layer][product] = {.a = {*next++, WeightLayout::out_in},
                                .b = {*next++, WeightLayout::out_in}};
    }
  }
}

HostTensor on_host(Device& device, const ConstView& tensor) {
  return {download(device, tensor), tensor.shape()};
}

HostTensor transposed(const HostTensor& matrix) {
  const std::size_t rows = matrix.shape[0], columns = matrix.shape[1];
  HostTensor result{std::vector<float>(matrix.values.size()), {matrix.shape[1], matrix.shape[0]}};
  for (std::size_t r = 0; r < rows; ++r) {
    for (std::size_t c = 0; c < columns; ++c) {
      result.values[c * rows + r] = matrix.values[r * columns + c];
    }
  }
  return result;
}

void add_product(HostTensor& weight, const HostTensor& b, const HostTensor& a, float scale) {
  const std::size_t rows = b.shape[0], rank = b.shape[1], columns = a.shape[1];
  parallel_for(0, rows, [&](std::size_t row) {
    std::vector<float> sum(columns, 0.0f);
    for (std::size_t i = 0; i < rank; ++i) {
      const float factor = b.values[row * rank + i];
      const float* values = &a.values[i * columns];
      for (std::size_t c = 0; c < columns; ++c) sum[c] += factor * values[c];
    }
    float* to = &weight.values[row * columns];
    for (std::size_t c = 0; c < columns; ++c) to[c] += scale * sum[c];
  });
}

LoraAdapter initialize_adapter(Device& device, const Gpt2Config& config, const LoraConfig& lora,
                               std::uint64_t seed) {
  LoraAdapter adapter(device, config, lora);
  adapter.fill_zero(device);
  // PEFT's kaiming_uniform_ with a = sqrt(5): a bound of sqrt(6/((1 + 5)·K)).
  for (std::size_t i = 0; i < adapter.tensors().size(); i += 2) {  // each A
    const View a = adapter.tensors()[i];
    const float bound = 1.0f / std::sqrt(static_cast<float>(a.shape()[1]));
    const RandomKey key{.seed = mix(seed, kAdapterStream), .stream = i};
    std::vector<float> values(a.count());
    for (std::size_t j = 0; j < values.size(); ++j) {
      values[j] = bound * (2.0f * random_uniform(key, j) - 1.0f);
    }
    upload(device, values, a);
  }
  return adapter;
}

Parameters merge_adapter(Device& device, const Gpt2Config& config,
                         std::shared_ptr<const Parameters> base, const LoraAdapter& adapter) {
  struct Holder {
    std::shared_ptr<const Parameters> base;
    std::vector<Buffer> merged;
  };
  auto holder = std::make_shared<Holder>(Holder{std::move(base), {}});
  std::vector<ConstView> weights = holder->base->weights();
  std::vector<View> writable = holder->base->tensors();
  for (int layer = 0; layer < config.n_layer; ++layer) {
    for (const Role product : kProducts) {
      const LoraAdapter::Pair& pair = adapter.pair(layer, product);
      if (!pair.a) continue;
      const std::size_t i = weight_index(layer, product);
      const ConstView weight = weights[i];
      HostTensor merged = on_host(device, weight);
      add_product(merged, transposed(on_host(device, pair.a.view)),
                  transposed(on_host(device, pair.b.view)), adapter.config().scale());
      const Buffer& memory = holder->merged.emplace_back(device, weight.size_bytes());
      writable[i] = View(memory.data(), weight.dtype(), weight.shape());
      upload(device, merged.values, writable[i]);
      weights[i] = writable[i];
    }
  }
  return Parameters(config, std::move(weights), std::move(holder), 1, std::move(writable));
}

}  // namespace quire

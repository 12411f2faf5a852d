#include "engine/model/config.h"

#include <cmath>
#include <string>

#include "base/error.h"

namespace quire {
namespace {

struct NamedActivation {
  const char* name;
  Activation activation;
};

// The first name of an activation is the one we write.
constexpr NamedActivation kActivations[] = {
    {"gelu_new", Activation::gelu_new}, {"gelu_pytorch_tanh", Activation::gelu_new},
    {"gelu", Activation::gelu},         {"relu", Activation::relu},
    {"silu", Activation::silu},         {"swish", Activation::silu},
    {"tanh", Activation::tanh},
};

// Far beyond any model, near enough that no product of extents leaves 64 bits.
constexpr int kMaxVocabulary = 1 << 24;
constexpr int kMaxWidth = 1 << 20;
constexpr int kMaxPositions = 1 << 24;
constexpr int kMaxLayers = 1 << 14;

[[noreturn]] void reject(const char* field, const std::string& value, const std::string& allowed) {
  throw Error(Fault::bad_data, std::string("config: ") + field + " is " + value,
              {"allowed: " + allowed});
}

void require_range(const char* field, int value, int low, int high) {
  if (value < low || value > high) {
    reject(field, std::to_string(value), std::to_string(low) + " to " + std::to_string(high));
  }
}

void require_probability(const char* field, float value) {
  if (!(value >= 0.0f && value < 1.0f)) reject(field, std::to_string(value), "at least 0, below 1");
}

}  // namespace

float Gpt2Config::attention_scale(int layer) const {
  double scale = scale_attn_weights ? 1.0 / std::sqrt(head_size()) : 1.0;
  if (scale_attn_by_inverse_layer_idx) scale /= layer + 1;
  return static_cast<float>(scale);
}

std::int64_t Gpt2Config::parameter_count() const {
  const std::int64_t C = n_embd, I = inner(), V = vocab_size, P = n_positions, L = n_layer;
  const std::int64_t attention = C * 3 * C + 3 * C + C * C + C;
  const std::int64_t mlp = C * I + I + I * C + C;
  const std::int64_t layernorm = 2 * C;
  const std::int64_t head = tie_word_embeddings ? 0 : V * C;
  return V * C + P * C + L * (attention + mlp + 2 * layernorm) + layernorm + head;
}

void Gpt2Config::check() const {
  require_range("vocab_size", vocab_size, 1, kMaxVocabulary);
  require_range("n_positions", n_positions, 1, kMaxPositions);
  require_range("n_embd", n_embd, 1, kMaxWidth);
  require_range("n_layer", n_layer, 1, kMaxLayers);
  require_range("n_head", n_head, 1, n_embd);
  require_range("n_inner", n_inner, 0, kMaxWidth);
  if (n_embd % n_head != 0) {
    reject("n_head", std::to_string(n_head),
           "divisors of n_embd, which is " + std::to_string(n_embd));
  }
  if (activation_function == Activation::none) {
    reject("activation_function", "none", "gelu_new, gelu, relu, silu, tanh");
  }
  require_probability("resid_pdrop", resid_pdrop);
  require_probability("embd_pdrop", embd_pdrop);
  require_probability("attn_pdrop", attn_pdrop);
  if (!(layer_norm_epsilon > 0.0f && std::isfinite(layer_norm_epsilon))) {
    reject("layer_norm_epsilon", std::to_string(layer_norm_epsilon), "above 0");
  }
  if (!(initializer_range >= 0.0f && std::isfinite(initializer_range))) {
    reject("initializer_range", std::to_string(initializer_range), "at least 0");
  }
  // bos, eos and pad are not held against vocab_size: models with a small vocabulary often carry
  // the default 50256, and transformers loads them.
}

std::optional<Gpt2Config> Gpt2Config::preset(std::string_view name) {
  Gpt2Config config;
  const auto shape = [&](int layers, int width, int heads) {
    config.n_layer = layers;
    config.n_embd = width;
    config.n_head = heads;
    return config;
  };
  if (name == "tiny") {
    config.n_positions = 256;
    return shape(4, 128, 4);
  }
  if (name == "gpt2") return shape(12, 768, 12);          // 124M
  if (name == "gpt2-medium") return shape(24, 1024, 16);  // 355M
  if (name == "gpt2-large") return shape(36, 1280, 20);   // 774M
  if (name == "gpt2-xl") return shape(48, 1600, 25);      // 1.6B
  return std::nullopt;
}

Activation activation_from_name(std::string_view name) {
  for (const NamedActivation& entry : kActivations) {
    if (name == entry.name) return entry.activation;
  }
  reject("activation_function", std::string(name), "gelu_new, gelu, relu, silu, tanh");
}

const char* name_of(Activation activation) {
  for (const NamedActivation& entry : kActivations) {
    if (activation == entry.activation) return entry.name;
  }
  return "none";
}

}  // namespace quire

// The shape of a GPT-2: what config.json says.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "kernels/ops.h"

namespace quire {

/// Field names and defaults are transformers' GPT2Config.
struct Gpt2Config {
  int vocab_size = 50257;
  int n_positions = 1024;
  int n_embd = 768;
  int n_layer = 12;
  int n_head = 12;
  int n_inner = 0;  ///< width of the MLP; 0 = 4·n_embd
  Activation activation_function = Activation::gelu_new;
  float resid_pdrop = 0.1f;
  float embd_pdrop = 0.1f;
  float attn_pdrop = 0.1f;
  float layer_norm_epsilon = 1e-5f;
  float initializer_range = 0.02f;
  bool scale_attn_weights = true;
  bool scale_attn_by_inverse_layer_idx = false;
  bool reorder_and_upcast_attn =
      false;  ///< kept for saving: our scores and softmax are fp32 anyway
  bool tie_word_embeddings = true;
  std::optional<int> bos_token_id = 50256;
  std::optional<int> eos_token_id = 50256;
  std::optional<int> pad_token_id;

  int inner() const { return n_inner > 0 ? n_inner : 4 * n_embd; }
  int head_size() const { return n_embd / n_head; }
  /// What scores of `layer` (from 0) are multiplied with.
  float attention_scale(int layer) const;
  /// Number of trainable parameters; a tied head counts once.
  std::int64_t parameter_count() const;
  /// Throws Error(bad_data) naming the field, its value and what is allowed.
  void check() const;

  /// "tiny", "gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl"; nullopt for other names.
  static std::optional<Gpt2Config> preset(std::string_view name);
};

/// "gelu_new", "gelu", "relu", "silu", "tanh" (and transformers' synonyms "gelu_pytorch_tanh",
/// "swish"); throws Error(bad_data) for others.
Activation activation_from_name(std::string_view name);
const char* name_of(Activation activation);

}  // namespace quire

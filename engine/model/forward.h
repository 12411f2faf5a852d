// The forward pass, which scoring, training and decoding share: what it keeps, where it drops, and
// the pass itself.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <type_traits>
#include <vector>

#include "engine/model/arena.h"
#include "engine/model/config.h"
#include "engine/model/gpt2.h"
#include "engine/model/lora.h"
#include "engine/model/parameters.h"
#include "kernels/device.h"

namespace quire {

/// A layernorm's output, and of its input what a backward pass reads.
struct LayernormOutput {
  View out;         // [N, C]
  View mean, rstd;  // [N], or empty
};

/// What of one block's forward pass its backward pass reads again. Layernorm outputs and the
/// activation's output are its own only where `outputs_kept`: computing them anew reads memory
/// once, storing them for all layers takes 6·C of 16·C numbers a token.
struct LayerActivations {
  bool outputs_kept = false;   // ln_1, ln_2 and act; or all layers share them
  View x;                      // [N, C] the block's input, what ln_1 normalises
  LayernormOutput ln_1, ln_2;  // where shared, their outputs are one
  View qkv;                    // [N, 3C]
  View lse;                    // [B, H, T]
  View att;                    // [N, C] the heads' outputs side by side
  View x_mid;                  // [N, C] after the attention branch, what ln_2 normalises
  View fc;                     // [N, I] the MLP's pre-activation
  View act;                    // [N, I] the MLP's activation
  /// [N, r] scale·dropout(x)·Aᵀ of each product that is adapted
  ByRole<View> lora_h;
};

/// All tensors of a pass over a batch of B rows of T tokens, N = B·T.
struct Activations {
  int batch = 0;                            // B
  int length = 0;                           // T
  View ids, positions, first_key, targets;  // [B, T] i32
  std::vector<LayerActivations> layers;
  View x_final;          // [N, C] after the last block, what ln_f normalises
  LayernormOutput ln_f;  // its output is ln

  // Used by one step of the pass after the other.
  View ln;      // [N, C] output of the latest layernorm that no layer keeps
  View branch;  // [N, C] output of the latest attention or MLP, before it joins the residual
  View act;     // [N, I] output of the latest activation that no layer keeps
  View logits;  // [R, W] of a chunk of R rows: V columns and those that fill them up
  View losses;  // [N]

  // Backward only.
  View d_x;  // [N, C] gradient of the residual stream, added to from the last layer to the first
  View d_branch;  // [N, C] gradient of a branch's output or input
  View d_wide;    // [N, max(I, 3C)] gradient of fc, then of qkv

  // With an adapter only.
  View lora_x;    // [N, C or I] what of a product's input dropout leaves to its adapter
  View d_lora_h;  // [N, r] gradient of the latest lora_h

  std::int64_t tokens() const { return std::int64_t{batch} * length; }  // N
};

/// Memory of the gradients of blocks, one block's behind the other's, that is free until the backward
/// pass comes to the block: what a layer keeps fits below the gradients of its own block.
struct FreeGradients {
  std::byte* first = nullptr;      ///< of block Keep::first_layer; null where an arena only counts
  std::size_t bytes_of_block = 0;  ///< 0: there is none
};

/// What of a forward pass is kept.
struct Keep {
  bool for_backward = false;  ///< or no layer keeps anything: all share one layer's tensors
  int first_layer = 0;        ///< where the backward pass ends: the layers below it keep nothing
  bool inputs_only = false;   ///< a layer keeps its input; all share the rest, computed again
  bool outputs = false;       ///< a layer keeps ln_1, ln_2 and act, too, unless inputs_only
  FreeGradients free;
  HeadLayout head;
  LoraConfig lora;  ///< of the adapter, where its rank is not 0
};

/// Lays out a pass in `arena`, which may be one that only counts. Sizes grow with B·T alone. What
/// has C, I or V columns is of `dtype`, logits that no gradient is taken of excepted; what has
/// none is float.
Activations take_activations(Arena& arena, const Gpt2Config& config, int batch, int length,
                             const Keep& keep, DType dtype);

/// The places of dropout and their streams: four of the model, and the input of each adapter.
/// Default: none drops.
class DropoutSites {
 public:
  struct Site {
    float p = 0.0f;
    RandomKey key;
  };

  DropoutSites() { config_.embd_pdrop = config_.attn_pdrop = config_.resid_pdrop = 0.0f; }
  /// For rows of `length` tokens, of which the first is row `first_row` of the micro-batch.
  DropoutSites(const Gpt2Config& config, std::uint64_t seed, float lora_dropout,
               std::int64_t first_row, std::int64_t length)
      : config_(config),
        lora_dropout_(lora_dropout),
        seed_(seed),
        first_row_(first_row),
        length_(length) {}

  Site embedding() const { return site(config_.embd_pdrop, 0, 0, config_.n_embd); }
  Site attention(int layer) const {
    return site(config_.attn_pdrop, layer, 1, config_.n_head * length_);
  }
  Site attention_projection(int layer) const {
    return site(config_.resid_pdrop, layer, 2, config_.n_embd);
  }
  Site mlp_projection(int layer) const {
    return site(config_.resid_pdrop, layer, 3, config_.n_embd);
  }
  Site adapter(int layer, Role product) const {
    return site(lora_dropout_, layer, entry_of(product).dropout, weight_shape(config_, product)[0]);
  }

 private:
  Site site(float p, int layer, int place, std::int64_t numbers_a_token) const;

  Gpt2Config config_;
  float lora_dropout_ = 0.0f;
  std::uint64_t seed_ = 0;
  std::int64_t first_row_ = 0, length_ = 0;
};

/// Keys and values of the tokens before a pass, for one that goes on from them: it adds its own.
/// Its rows bring different numbers of tokens, one row's after the other's: to all else in the pass
/// they are a batch of one row.
struct KeyValueCache {
  /// Rows next to each other that bring as many tokens.
  struct Group {
    std::int64_t first_row = 0, rows = 0, first_token = 0, tokens_a_row = 0;
  };
  View all;     // [2·L·H, N, D] of each layer the keys of its heads, then the values
  View past;    // [B] i32: slots in use
  View blocks;  // [B, M] i32: of AttentionCached
  std::vector<Group> groups;  // of all B rows
};

/// What a pass works with.
struct Pass {
  Device& device;
  const Gpt2Config& config;
  const Parameters& parameters;
  Activations& a;
  DropoutSites dropout = {};
  const LoraAdapter* adapter = nullptr;
  int first_layer = 0;  ///< where a backward pass ends
  Multiply precision = Multiply::as_stored;
  /// Of rows that go on. Only the logits of each one's last token are asked for: a.ln has B rows in
  /// the end.
  const KeyValueCache* cache = nullptr;
  /// The products' weights as [out, in], for devices that prefer it: one for each layer, or none.
  std::span<const ByRole<Weight>> transposed = {};

  /// One of the device's products, in that precision: pass.multiply(&Device::matmul_add, {…}).
  template <class Op>
  void multiply(void (Device::*op)(const Op&), std::type_identity_t<Op> p) const {
    p.multiply = precision;
    (device.*op)(p);
  }
};

/// How a pass that scores or decodes multiplies: in bfloat16 where all matrices are stored so and the
/// device keeps float activations beside them but can round these; else what is stored.
Multiply inference_precision(const Device& device, const Gpt2Config& config,
                             const Parameters& parameters);

/// Throws Error(usage) for a batch longer than the context and Error(bad_data) for an id, target or
/// position outside its table, naming row and column.
void check_batch(const Gpt2Config& config, const TokenBatch& batch);

/// Throws Error(bad_data) for an id outside [0, limit), naming row and column: row `first_row` of
/// the batch is the first of rows of `length`.
void check_ids(const char* what, std::span<const std::int32_t> ids, int limit, std::size_t length,
               bool may_be_ignored = false, std::size_t first_row = 0);

/// Copies the batch's ids, positions, masks and targets to the device.
void upload(Device& device, const TokenBatch& batch, Activations& a);

/// to.out is the layernorm of x.
void normalise(const Pass& pass, const WeightAndBias<ConstView>& layernorm, View x,
               const LayernormOutput& to);

/// Embedding, blocks, final layernorm: a.ln holds the final hidden states. `hidden`, where given,
/// receives them all.
void forward_hidden(const Pass& pass, HiddenStates* hidden = nullptr);

/// What the backward pass of block `layer` reads, from the block's input alone: the same ops on the
/// same numbers, so the same bits.
void recompute_block(const Pass& pass, int layer);

/// Calls `head` for one chunk of rows after the other, as many as a.logits has: the logits of a
/// whole batch never exist. 256 rows of GPT-2's take 51 MB;
/// those of B = 4, T = 1024 would take 823.
struct RowRange {
  std::int64_t first, count;
};
void for_each_chunk(const Activations& a, const std::function<void(RowRange)>& head);

/// Logits of a chunk, in the memory of a.logits: [count, W], W as the parameters' padded_head().
View forward_logits(const Pass& pass, RowRange rows);

/// Losses of all targets into a.losses, without gradients.
void forward_losses(const Pass& pass);

}  // namespace quire

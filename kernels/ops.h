// Every operation of the model, once: its formula, shapes and what it overwrites or adds to.
//
// A backend is a class that derives from Device and declares all that QUIRE_OPS lists: one that does
// not define an op does not link. Each op takes one struct with named fields:
//
//   device.layernorm_forward({.out = a.ln_1, .mean = a.mean, .rstd = a.rstd, .x = x, …});
//
// Rules for all ops:
//  - A View is overwritten, an Accumulate is added to, a ConstView or a Weight is read. Outputs
//    never alias inputs, except where the field says so.
//  - Sums run in float at least, whatever the storage type; the reference sums in double.
//  - The result of a row depends on that row alone, bit for bit: not on how many rows there are,
//    nor on the number of threads. (A batch row equals the same prompt alone, and the same seed
//    gives the same bytes with any number of threads.) On a GPU this holds for all ops but
//    products, which a library multiplies: Device::rows_alone().
//  - The same calls give the same bits in every run and process on the same kind of device. On a
//    GPU that is the same card, driver, library and build, Device::tuned() and why_unproven().
//  - Views that do not fit together throw Error(internal), naming the op and the dimension
//    ("matmul: K is 63, weight expects 64"): see check.h.
//  - Work may be queued: results are on the host after copy_to_host() or synchronize().
#pragma once

#include <cstdint>
#include <span>

#include "base/ignored_target.h"
#include "base/random.h"
#include "kernels/weight.h"

namespace quire {

// ---------------------------------------------------------------- embedding

/// out[b,t,:] = wte[ids[b,t],:] + wpe[positions[b,t],:]
struct EmbeddingForward {
  View out;             // [B, T, C]
  ConstView ids;        // [B, T] i32, each in [0, V)
  ConstView positions;  // [B, T] i32, each in [0, P)
  Weight wte;           // [V, C], out_in, any format
  ConstView wpe;        // [P, C] any float type
};

/// d_wte[ids[b,t],:] += d_out[b,t,:];  d_wpe[positions[b,t],:] += d_out[b,t,:].
/// Rows that meet are added in the order of (b, t).
struct EmbeddingBackward {
  Accumulate d_wte;  // [V, C]
  Accumulate d_wpe;  // [P, C]
  ConstView d_out;   // [B, T, C]
  ConstView ids;     // [B, T] i32
  ConstView positions;
};

// ---------------------------------------------------------------- layernorm

/// Ba, Kiros and Hinton, "Layer Normalization" (2016). N rows are all leading dimensions together.
///   mean = sum_C(x)/C;  rstd = 1/sqrt(sum_C((x - mean)²)/C + eps)
///   out = (x - mean)·rstd·weight + bias
struct LayernormForward {
  View out;          // [N, C]
  View mean;         // [N] f32, or empty where no backward follows
  View rstd;         // [N] f32, or empty
  ConstView x;       // [N, C]
  ConstView weight;  // [C]
  ConstView bias;    // [C]
  float eps = 1e-5f;
};

/// sum = x + branch, then the layernorm of sum: the residual addition fused in.
struct ResidualLayernormForward {
  View sum;          // [N, C]; may be the same as x
  View out;          // [N, C]
  View mean;         // [N] f32, or empty
  View rstd;         // [N] f32, or empty
  ConstView x;       // [N, C]
  ConstView branch;  // [N, C]
  ConstView weight;  // [C]
  ConstView bias;    // [C]
  float eps = 1e-5f;
};

/// With n = (x - mean)·rstd and g = d_out·weight:
///   d_x += rstd·(g - mean_C(g) - n·mean_C(g·n))
///   d_weight += sum_N(d_out·n)
///   d_bias += sum_N(d_out)
struct LayernormBackward {
  Accumulate d_x;       // [N, C]
  Accumulate d_weight;  // [C]; empty together with d_bias where the parameters are frozen
  Accumulate d_bias;    // [C]
  ConstView d_out;      // [N, C]
  ConstView x;          // [N, C], what the forward op normalised
  ConstView weight;     // [C]
  ConstView mean;       // [N] f32
  ConstView rstd;       // [N] f32
};

// ---------------------------------------------------------------- matmul and activation

enum class Activation : std::uint8_t {
  none,
  gelu_new,  ///< 0.5·x·(1 + tanh(sqrt(2/pi)·(x + 0.044715·x^3)))
  gelu,      ///< 0.5·x·(1 + erf(x/sqrt(2)))
  relu,
  silu,  ///< x/(1 + exp(-x))
  tanh,
};

/// Calls work.operator()<kind>() for the kind given at run time, as dispatch() does for types.
template <class Work>
constexpr void with_activation(Activation kind, const Work& work) {
  switch (kind) {
    case Activation::none:
      return work.template operator()<Activation::none>();
    case Activation::gelu_new:
      return work.template operator()<Activation::gelu_new>();
    case Activation::gelu:
      return work.template operator()<Activation::gelu>();
    case Activation::relu:
      return work.template operator()<Activation::relu>();
    case Activation::silu:
      return work.template operator()<Activation::silu>();
    case Activation::tanh:
      return work.template operator()<Activation::tanh>();
  }
}

/// What a product multiplies: its operands as they are stored, or each element rounded to bfloat16
/// first, to nearest with ties to even, as torch.autocast does it for a linear layer. All else,
/// sums and results, is the same. Rounding is for operands in float, beside a weight of any plain
/// type, and for devices that know no reason against it: Device::why_not_in_bf16(). There subnormal
/// numbers may count as zero. Training asks for it (TrainingOptions::activations); scoring and
/// decoding do where all matrices are stored in bfloat16, so that of these only x is rounded.
enum class Multiply : std::uint8_t { as_stored, in_bf16 };

/// pre = x·weight + bias;  out = activation(pre). 2·M·N·K flops.
/// Where Device::rows_alone(), an element's bits do not depend on M: the device has one order of
/// summation for each value of `multiply`. Elsewhere the order may change with M, and with where
/// views begin: up to 8 rows of whole vectors have kernels of their own; else it is the library's
/// algorithm for M rounded up to a power of two, where one serves that whole class, which finds all
/// views aligned and leaves no sum to several blocks.
/// A weight in blocks (kernels/quantised.h) is multiplied as it is stored, with x in float, and x is
/// rounded: in each block of 32 elements to multiples of max|x|/32767, to nearest with ties to even
/// (a block whose max|x| is below 2^-100 counts as zero, and one with an element that is not finite
/// makes its row NaN). A block's sum is exact, and goes into the element's sum in float, in order of
/// k, by one multiply-add with the product of both scales. Whether that rounds once or twice is the
/// machine's only say: fused where it has such an instruction. The reference does not round x.
struct MatmulForward {
  View out;             // [M, N] x's type, or float: logits under 16-bit activations
  View pre_activation;  // [M, N], or empty: pre, which the activation's backward wants
  ConstView x;          // [M, K]
  Weight weight;        // K in, N out, any format; of the other ops, one without blocks
  ConstView bias;       // [N], or empty
  Activation activation = Activation::none;
  Multiply multiply = Multiply::as_stored;
};

/// Residual addition, layernorm and the product that reads its output, one after the other. For the
/// few rows of decoding a device may do them in one go: it is then faster where `sum` is not `x`,
/// and what layernorm.out holds afterwards is not said.
struct LayernormMatmul {
  ResidualLayernormForward layernorm;
  MatmulForward matmul;  // its x is layernorm.out
};

/// out = inᵀ: a weight in the other layout, for devices that want it so (Device::prefers_out_in).
struct Transpose {
  View out;      // [N, K] in's type
  ConstView in;  // [K, N] any float type
};

/// Overwrites d_x; weight as in the forward op.
///   d_x = d_out·weightᵀ
/// and where the product's x is activation(pre_activation), the gradient of that:
///   d_x = (d_out·weightᵀ)·activation'(pre_activation)
struct MatmulBackwardInput {
  View d_x;                  // [M, K]
  ConstView d_out;           // [M, N]
  Weight weight;             // K in, N out
  ConstView pre_activation;  // [M, K], or empty where activation is none
  Activation activation = Activation::none;
  Multiply multiply = Multiply::as_stored;
};

/// d_weight += xᵀ·d_out (or its transpose, in the weight's layout);  d_bias += sum_M(d_out).
struct MatmulBackwardWeight {
  AccumulateWeight d_weight;  // [K, N] or [N, K]
  Accumulate d_bias;          // [N], or empty; no product: of d_out as it is stored
  ConstView d_out;            // [M, N]
  ConstView x;                // [M, K]
  Multiply multiply = Multiply::as_stored;
};

/// out += scale·x·weight. 2·M·N·K flops. A low-rank adapter is two of these beside a product. In
/// bfloat16 scale·x is what is rounded.
struct MatmulAdd {
  Accumulate out;  // [M, N] x's type
  ConstView x;     // [M, K]
  Weight weight;   // K in, N out
  float scale = 1.0f;
  Multiply multiply = Multiply::as_stored;
};

/// out = activation(x), any shape.
struct ActivationForward {
  View out;     // may be the same as x
  ConstView x;  // the pre-activation
  Activation activation = Activation::gelu_new;
};

/// d_x = d_out·activation'(x), any shape.
struct ActivationBackward {
  View d_x;  // may be the same as d_out
  ConstView d_out;
  ConstView x;  // the pre-activation
  Activation activation = Activation::gelu_new;
};

// ---------------------------------------------------------------- attention

/// Causal self-attention of each head h with channels [h·D, (h+1)·D) of q, k and v:
///   p[q,k] = softmax over k of scale·(q·k), for first_key[b,q] <= k <= q
///   out[q] = sum_k p[q,k]·v[k]
///   lse[q] = log(sum_k exp(scale·(q·k)))
/// A query whose first_key lies behind it (padding) sees nothing: out = 0, lse = -infinity.
/// first_key says all there is to say about masks: left padding gives each row its number of pad
/// tokens, packed records give each position the start of its record.
/// dropout > 0 multiplies p by keep/(1 - dropout) after the softmax; element
/// ((b·H + h)·T + q)·T + k of `key`'s stream decides which to keep (random.h).
struct AttentionForward {
  View out;             // [B, T, C]
  View lse;             // [B, H, T] f32, or empty where no backward follows
  ConstView qkv;        // [B, T, 3C]: q, k, v side by side
  ConstView first_key;  // [B, T] i32, or empty: 0 everywhere. Never decreases along T.
  int heads = 1;
  float scale = 1.0f;
  float dropout = 0.0f;
  RandomKey key;
};

/// Gradients of AttentionForward; p is computed again from q, k and lse, never stored.
struct AttentionBackward {
  View d_qkv;           // [B, T, 3C], all of it overwritten
  ConstView d_out;      // [B, T, C]
  ConstView out;        // [B, T, C]
  ConstView lse;        // [B, H, T] f32
  ConstView qkv;        // [B, T, 3C]
  ConstView first_key;  // as in the forward op, like all that follows
  int heads = 1;
  float scale = 1.0f;
  float dropout = 0.0f;
  RandomKey key;
};

/// Positions of a block of cached keys and values: the keys that every backend takes at once.
inline constexpr int kCacheBlock = 64;

/// Attention of T new positions that follow past[b] ones of their row. Slot s of row b is position
/// blocks[b, s / kCacheBlock] + s % kCacheBlock of the caches. Writes the new keys and values into
/// slots past[b] … past[b]+T-1, which no other row may have; query t sees slots 0 … past[b]+t.
/// In float32 the result is that of AttentionForward over the whole row, bit for bit.
struct AttentionCached {
  View out;          // [B, T, C]
  View k_cache;      // [H, N, D]
  View v_cache;      // [H, N, D]
  ConstView qkv;     // [B, T, 3C]
  ConstView past;    // [B] i32, past[b] + T <= M·kCacheBlock
  ConstView blocks;  // [B, M] i32: slots in use are in [0, N); entries without one are any number
  int heads = 1;
  float scale = 1.0f;
};

// ---------------------------------------------------------------- dropout

/// out[i] = x[i]·(number i of the stream >= threshold)/(1 - p).
/// The same call on a gradient is the backward op.
struct Dropout {
  View out;  // any shape; may be the same as x
  ConstView x;
  float p = 0.0f;  // 0 <= p < 1
  RandomKey key;
};

// ---------------------------------------------------------------- cross_entropy

/// losses[n] = log(sum_v exp(logits[n,v])) - logits[n, targets[n]], 0 where the target is ignored.
/// v goes over the vocabulary. Columns behind it, which a device may have asked for
/// (Device::vocab_multiple()), are not read; the bits are those without such columns.
struct CrossEntropyForward {
  View losses;             // [N] f32
  ConstView logits;        // [N, W], W >= V columns
  ConstView targets;       // [N] i32: [0, V) or kIgnoredTarget
  std::int64_t vocab = 0;  // V; 0: all W columns

  std::int64_t vocabulary() const { return vocab > 0 ? vocab : logits.shape()[1]; }
};

/// The loss and, over the logits, their gradient, 0 in ignored rows:
///   (softmax(logits[n,:]) - onehot(targets[n]))·scale
/// scale is 1/(number of targets the loss is the mean of).
struct CrossEntropyBackward {
  View losses;           // [N] f32
  View logits_to_grads;  // [N, W] in: logits; out: gradients, 0 in columns behind V
  ConstView targets;     // [N] i32
  float scale = 1.0f;
  std::int64_t vocab = 0;  // V, as in the forward op

  std::int64_t vocabulary() const { return vocab > 0 ? vocab : logits_to_grads.shape()[1]; }
};

// ---------------------------------------------------------------- optimizer

/// One tensor of an AdamW step.
struct AdamwTensor {
  View param;      // any shape, f32
  ConstView grad;  // same count
  View m;          // same count, f32
  View v;          // same count, f32
  float weight_decay = 0.0f;
  View copy;  // same count, f16 or bf16, or empty: the param to nearest, for the products
};

/// Loshchilov and Hutter, "Decoupled Weight Decay Regularization" (2019), in torch's order:
///   g = grad·grad_scale
///   p *= 1 - lr·weight_decay
///   m += (g - m)·(1 - beta1)
///   v = beta2·v + (1 - beta2)·g²
///   p -= lr/(1 - beta1^step) · m/(sqrt(v)/sqrt(1 - beta2^step) + eps)
/// 28 bytes of traffic a parameter in float; 30 with a copy.
struct AdamwStep {
  std::span<const AdamwTensor> tensors;
  float lr = 5e-5f;
  float beta1 = 0.9f;
  float beta2 = 0.999f;
  float eps = 1e-8f;
  std::int64_t step = 1;    // counted from 1
  float grad_scale = 1.0f;  // clipping: min(1, max_norm/(norm + 1e-6))
};

// ---------------------------------------------------------------- sampling

/// Over the rows of logits, in place, for every distinct token of history[b, first[b]…length):
/// s = s < 0 ? s·penalty : s/penalty.  Keskar et al., "CTRL" (2019).
struct RepetitionPenalty {
  View logits;        // [B, V] f32
  ConstView history;  // [B, length] i32: prompt and output so far
  ConstView first;    // [B] i32: left padding to skip, or empty: 0
  float penalty = 1.0f;
};

/// Turns logits into filtered scores, in place, in this order; what is dropped becomes -infinity:
///   temperature: s /= temperature
///   top_k: drops s < the k-th largest (ties stay); 0 turns it off
///   top_p: sorted ascending, drops while the cumulative probability <= 1 - top_p; 1 turns it off
///   min_p: drops prob < min_p·max prob; 0 turns it off
/// At least min_tokens_to_keep stay. Of equal scores the lower index is the better one.
struct WarpLogits {
  View logits;  // [B, V] f32
  float temperature = 1.0f;
  int top_k = 0;
  float top_p = 1.0f;
  float min_p = 0.0f;
  int min_tokens_to_keep = 1;
};

/// tokens[b] = the first v at which sum_{w<=v} softmax(logits[b])[w] > uniforms[b].
/// Sums run in double.
struct DrawTokens {
  View tokens;         // [B] i32
  ConstView logits;    // [B, V] f32
  ConstView uniforms;  // [B] f32 in [0, 1)
};

/// tokens[b] = index of the largest logit, the lowest index on a tie.
struct ArgmaxTokens {
  View tokens;       // [B] i32
  ConstView logits;  // [B, V] f32
};

// ---------------------------------------------------------------- all of them

/// Each op's function and what it takes, for whatever stands once for every op: OP(name, Struct).
/// layernorm_forward is no line of its own: it is residual_layernorm_forward without a branch.
#define QUIRE_OPS(OP)                                      \
  OP(embedding_forward, EmbeddingForward)                  \
  OP(embedding_backward, EmbeddingBackward)                \
  OP(residual_layernorm_forward, ResidualLayernormForward) \
  OP(layernorm_backward, LayernormBackward)                \
  OP(matmul_forward, MatmulForward)                        \
  OP(transpose, Transpose)                                 \
  OP(matmul_backward_input, MatmulBackwardInput)           \
  OP(matmul_backward_weight, MatmulBackwardWeight)         \
  OP(matmul_add, MatmulAdd)                                \
  OP(activation_forward, ActivationForward)                \
  OP(activation_backward, ActivationBackward)              \
  OP(attention_forward, AttentionForward)                  \
  OP(attention_backward, AttentionBackward)                \
  OP(attention_cached, AttentionCached)                    \
  OP(dropout, Dropout)                                     \
  OP(cross_entropy_forward, CrossEntropyForward)           \
  OP(cross_entropy_backward, CrossEntropyBackward)         \
  OP(adamw, AdamwStep)                                     \
  OP(repetition_penalty, RepetitionPenalty)                \
  OP(warp_logits, WarpLogits)                              \
  OP(draw_tokens, DrawTokens)                              \
  OP(argmax_tokens, ArgmaxTokens)

/// In the class of a backend: `void do_dropout(const Dropout&) override;` and so on.
#define QUIRE_OVERRIDE_OP(name, Struct) void do_##name(const Struct&) override;

}  // namespace quire

// GPT-2: forward and backward, as lists of op calls.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "engine/model/arena.h"
#include "engine/model/config.h"
#include "engine/model/lora.h"
#include "engine/model/parameters.h"
#include "kernels/device.h"
#include "tokens/batch.h"

namespace quire {

/// Hidden states for tests and tools: embed, then the output of each block,
/// then the final layernorm.
struct HiddenStates {
  std::vector<std::vector<float>> states;  // n_layer + 2 times [B, T, C]
};

/// How the head is computed: by the chunk of rows, so that the logits of a whole batch never exist.
struct HeadLayout {
  std::int64_t rows = 256;  ///< of a chunk, at most
  int vocab_multiple = 1;   ///< of the columns of logits, the device's
};

/// The device's, with fewer rows where logits of `dtype` would take more than a thirty-second of
/// the memory that it has. Not of what is free of it: the table's gradient is a sum over chunks,
/// and a resumed run is to add up the same ones.
HeadLayout head_layout(const Device& device, const Gpt2Config& config, DType dtype);

/// Full-sequence forward without gradients: logits, losses, hidden states. Workspace grows to the
/// largest batch seen. Holds references to device and parameters.
class Gpt2 {
 public:
  Gpt2(Device& device, const Gpt2Config& config, const Parameters& parameters);
  Gpt2(Gpt2&&) noexcept;
  ~Gpt2();

  /// logits [B, T, V] on the host.
  std::vector<float> logits(const TokenBatch& batch, HiddenStates* hidden = nullptr);
  /// Loss of every target, [B, T], 0 where ignored. Logits exist for a chunk of rows at a time.
  std::vector<float> token_losses(const TokenBatch& batch);

  /// What either allocates for B rows of T tokens, on a device with activations of that type and
  /// that head_layout() of logits in float, largest first.
  static std::vector<MemoryItem> memory_plan(const Gpt2Config& config, int batch, int length,
                                             DType activations, const HeadLayout& head);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

struct TrainingOptions {
  int batch = 1;        // B, the largest micro-batch
  int length = 1024;    // T, the longest row
  bool dropout = true;  // use the config's probabilities
  /// bf16: activations and a copy of the matrices are bfloat16, or, on devices that keep float
  /// activations beside those, the operands of products are rounded to it (Multiply::in_bf16);
  /// parameters, their gradients and the moments stay float. For a memory plan: the device's
  /// activation_type() for it.
  DType activations = DType::f32;
  /// Above 0 the embeddings and that many first blocks do not train: they have no gradients, and
  /// the backward pass ends above them.
  int frozen_layers = 0;
  /// Keeps of each block its input alone and computes the rest again in the backward pass: the same
  /// gradients, bit for bit, for one more forward pass.
  bool gradient_checkpointing = false;
  /// Keeps of each block the outputs of its layernorms and of its activation, 6·C numbers a token
  /// beside 10·C, which the backward pass computes anew otherwise. The same gradients, bit for bit,
  /// where a device's product with an activation has the bits of one after the other. Nothing where
  /// gradient_checkpointing.
  bool keep_outputs = false;
  /// Whether forward_backward() adds to gradients. Else it begins with zeros, so that
  /// zero_gradients() need not be called, and gradients last until the next pass: before those of a
  /// block are written their memory holds what the blocks above keep, and the logits.
  bool accumulates = true;
  HeadLayout head;         ///< for the memory plan; a pass takes that of its device
  LoraConfig lora;         ///< for the memory plan; a pass takes that of its adapter
  int gradient_parts = 1;  ///< the memory of the gradients divides into so many equal parts
};

/// Throws Error(device) where the device cannot do what TrainingOptions::activations asks for.
void check_trains_in(const Device& device, DType activations);

/// Forward and backward with gradients. All memory is allocated in the constructor. With an
/// `adapter`, which must outlive it, that alone trains, and the parameters stay as they are.
/// Throws what check_trains_in() does.
class Gpt2Training {
 public:
  Gpt2Training(Device& device, const Gpt2Config& config, const Parameters& parameters,
               const TrainingOptions& options, const LoraAdapter* adapter = nullptr);
  Gpt2Training(Gpt2Training&&) noexcept;
  ~Gpt2Training();

  /// What the constructor will allocate (gradients and activations), largest first.
  static std::vector<MemoryItem> memory_plan(const Gpt2Config& config,
                                             const TrainingOptions& options);

  /// Sum (not mean) of the losses of the valid targets. Adds to gradients, or sets them to, the
  /// derivative of loss_sum·grad_scale; grad_scale is 1/(valid targets of the whole accumulation window).
  /// `dropout_seed` names the streams of this micro-batch: equal seeds drop the same elements.
  double forward_backward(const TokenBatch& batch, float grad_scale, std::uint64_t dropout_seed);
  /// Sum of the losses of the valid targets, without dropout and gradients.
  double forward(const TokenBatch& batch);

  void zero_gradients();
  /// Of the parameters, or of the adapter where there is one.
  /// Views of what does not train are empty.
  const NamedTensors& gradients() const;

  /// The 16-bit copies of the matrices that the passes read, which an optimizer's step writes
  /// beside the parameters; null where the passes read the parameters themselves.
  const Parameters* copies() const;
  /// Makes the copies anew: to be called when the parameters have changed otherwise.
  void parameters_changed();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace quire

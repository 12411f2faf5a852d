// The reference backend: plain loops, sums in double, no threads, no SIMD. Linked into tests only.
#pragma once

#include <memory>

#include "kernels/device.h"

namespace quire {

/// Each op is in the file of its name; the arithmetic is in the functions of formulas.h.
class ReferenceDevice : public Device {
 public:
  std::string description() const override { return "reference"; }
  bool shares_host_memory() const override { return true; }
  std::string why_not_in_bf16() const override { return ""; }

  void* allocate(std::size_t bytes) override;
  void release(void* data) noexcept override;
  void copy_to_device(void* to, const void* from_host, std::size_t bytes) override;
  void copy_to_host(void* to_host, const void* from, std::size_t bytes) override;
  void copy(void* to, const void* from, std::size_t bytes) override;
  void fill_zero(void* data, std::size_t bytes) override;
  void synchronize() override {}

  void embedding_forward(const EmbeddingForward&) override;
  void embedding_backward(const EmbeddingBackward&) override;
  void layernorm_forward(const LayernormForward&) override;
  void residual_layernorm_forward(const ResidualLayernormForward&) override;
  void layernorm_backward(const LayernormBackward&) override;
  void matmul_forward(const MatmulForward&) override;
  void transpose(const Transpose&) override;
  void matmul_backward_input(const MatmulBackwardInput&) override;
  void matmul_backward_weight(const MatmulBackwardWeight&) override;
  void matmul_add(const MatmulAdd&) override;
  void activation_forward(const ActivationForward&) override;
  void activation_backward(const ActivationBackward&) override;
  void attention_forward(const AttentionForward&) override;
  void attention_backward(const AttentionBackward&) override;
  void attention_cached(const AttentionCached&) override;
  void dropout(const Dropout&) override;
  void cross_entropy_forward(const CrossEntropyForward&) override;
  void cross_entropy_backward(const CrossEntropyBackward&) override;
  void adamw(const AdamwStep&) override;
  double squared_norm(std::span<const ConstView> tensors) override;
  void repetition_penalty(const RepetitionPenalty&) override;
  void warp_logits(const WarpLogits&) override;
  void draw_tokens(const DrawTokens&) override;
  void argmax_tokens(const ArgmaxTokens&) override;
};

std::unique_ptr<Device> open_reference_device();

}  // namespace quire

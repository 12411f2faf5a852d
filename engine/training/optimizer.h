// AdamW over all parameters of a model, with clipping by the global gradient norm.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/model/parameters.h"

namespace quire {

struct AdamwOptions {
  float beta1 = 0.9f, beta2 = 0.999f, epsilon = 1e-8f;
  float weight_decay = 0.0f;   ///< of the parameters that decay: matrices and embeddings
  float max_grad_norm = 1.0f;  ///< 0 = no clipping
};

/// Owns the two moments. Refers to device, parameters and gradients, which must outlive it.
class AdamwOptimizer {
 public:
  /// `copies`, where given, are 16-bit copies of some parameters: Gpt2Training::copies().
  AdamwOptimizer(Device& device, const Gpt2Config& config, const Parameters& parameters,
                 const Parameters& gradients, const Parameters* copies,
                 const AdamwOptions& options);

  /// Euclidean norm of all gradients together.
  double gradient_norm() const;
  /// One update of all parameters, gradients first scaled by min(1, max_norm/(norm + 1e-6)).
  void step(float learning_rate, double gradient_norm);

  std::int64_t updates() const { return updates_; }  ///< taken so far: AdamW's t
  void set_updates(std::int64_t updates) { updates_ = updates; }
  const Parameters& first_moments() const { return m_; }
  const Parameters& second_moments() const { return v_; }

 private:
  Device* device_;
  AdamwOptions options_;
  Parameters m_, v_;
  std::vector<AdamwTensor> tensors_;
  std::vector<ConstView> gradients_;
  std::int64_t updates_ = 0;
};

}  // namespace quire

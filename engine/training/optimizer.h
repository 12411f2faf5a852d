// AdamW over all parameters that train, with clipping by the global gradient norm.
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
  /// Parameters without a gradient stay as they are and have no moments. `copies`, where given, are
  /// 16-bit copies of some parameters: Gpt2Training::copies().
  AdamwOptimizer(Device& device, const NamedTensors& parameters, const NamedTensors& gradients,
                 const NamedTensors* copies, const AdamwOptions& options);

  /// Euclidean norm of all gradients together.
  double gradient_norm() const;
  /// One update of all parameters that train, gradients first scaled by min(1, max_norm/(norm +
  /// 1e-6)).
  void step(float learning_rate, double gradient_norm);

  std::int64_t updates() const { return updates_; }  ///< taken so far: AdamW's t
  void set_updates(std::int64_t updates) { updates_ = updates; }
  const NamedTensors& first_moments() const { return m_; }
  const NamedTensors& second_moments() const { return v_; }

 private:
  Device* device_;
  AdamwOptions options_;
  NamedTensors m_, v_;
  std::vector<AdamwTensor> tensors_;
  std::vector<ConstView> gradients_;
  std::int64_t updates_ = 0;
};

}  // namespace quire

// AdamW over all parameters that train, with clipping by the global gradient norm.
//
// With several ranks the gradients lie in a row of as many equal parts, of which each rank adds up
// one (ranks.h). Without sharding the sums are collected and every rank makes the whole update.
// With it (ZeRO-1: Rajbhandari et al., "ZeRO: memory optimizations toward training trillion
// parameter models", SC 2020) a rank has the moments of its part alone and updates that part; then
// the parameters are collected, through the row of the gradients, which are not needed any more.
// The same bytes travel, and the result has the same bits.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/model/parameters.h"
#include "engine/training/ranks.h"

namespace quire {

struct AdamwOptions {
  float beta1 = 0.9f, beta2 = 0.999f, epsilon = 1e-8f;
  float weight_decay = 0.0f;   ///< of the parameters that decay: matrices and embeddings
  float max_grad_norm = 1.0f;  ///< 0 = no clipping
  bool sharded = false;        ///< ZeRO-1
};

/// Owns the two moments. Refers to device, parameters, gradients and ranks, which must outlive it.
class AdamwOptimizer {
 public:
  /// Parameters without a gradient stay as they are and have no moments. `copies`, where given, are
  /// 16-bit copies of some parameters: Gpt2Training::copies(). With several ranks the gradients'
  /// memory must have as many parts.
  AdamwOptimizer(Device& device, const NamedTensors& parameters, const NamedTensors& gradients,
                 const NamedTensors* copies, const AdamwOptions& options,
                 Ranks& ranks = one_rank());

  /// Adds up the gradients over all ranks: to be called once before the update.
  void reduce_gradients();
  /// Of the gradients that this rank adds up: summed over the ranks, that of all gradients.
  double squared_norm() const;
  /// Euclidean norm of all gradients together, where there is one rank.
  double gradient_norm() const;
  /// One update of all parameters that train, gradients first scaled by
  /// min(1, max_norm/(norm + 1e-6)). With sharding, 16-bit copies are not those of the new
  /// parameters afterwards: Gpt2Training::parameters_changed() makes them so.
  void step(float learning_rate, double gradient_norm);

  std::int64_t updates() const { return updates_; }  ///< taken so far: AdamW's t
  void set_updates(std::int64_t updates) { updates_ = updates; }
  bool sharded() const { return options_.sharded; }

  /// A stretch of a parameter whose moments are here: all of it, but for what is sharded.
  struct Piece {
    const NamedParameter* parameter;
    std::int64_t first;                ///< element of the parameter
    View parameters, gradients, m, v;  ///< [elements]
  };
  const std::vector<Piece>& pieces() const { return pieces_; }

  /// All moments in host memory. Every rank calls it where they are sharded, and rank 0 alone has
  /// them afterwards.
  struct HostMoments {
    struct Pair {
      const NamedParameter* parameter;
      ConstView m, v;  ///< of its shape
    };
    std::vector<float> m, v;  ///< what the views view; empty where they view the optimizer's memory
    std::vector<Pair> pairs;
  };
  HostMoments moments() const;

  /// What a rank allocates for its moments, of gradients of `gradient_bytes`.
  static std::size_t bytes(std::size_t gradient_bytes, int ranks, bool sharded);

 private:
  View part_of(const View& row) const;
  void collect_parameters();

  Device* device_;
  const NamedTensors* parameters_;
  const NamedTensors* gradients_;
  AdamwOptions options_;
  Ranks* ranks_;
  Buffer m_, v_;  // of the whole row of gradients, or of this rank's part
  std::vector<Piece> pieces_;
  std::vector<AdamwTensor> tensors_;    // as pieces_
  std::vector<ConstView> summed_here_;  // the gradients in this rank's part
  std::int64_t updates_ = 0;
};

}  // namespace quire

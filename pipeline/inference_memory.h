// The memory plans of generating and scoring on a device with memory of its own, beside the weights
// that are already there, and what to change where they do not fit.
#pragma once

#include "engine/generation/session.h"
#include "engine/model/config.h"
#include "kernels/device.h"

namespace quire {

/// Throws Error(no_space) where the caches, activations and logits of such a session do not fit. Its
/// next step is the --batch-size that does, with the same texts, or --max-new-tokens; where its
/// widest search, of `beams`, has no room alone, --num-beams.
void check_generation_memory(const Device& device, const Gpt2Config& model, DType weights,
                             SessionSize size, int beams = 1);

/// The same for a batch of windows that are scored together: a --batch-size that gives the same
/// result, or a smaller --window.
void check_scoring_memory(const Device& device, const Gpt2Config& model, DType weights, int batch,
                          int window);

}  // namespace quire

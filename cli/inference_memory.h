// The memory plans of generating and scoring on a device with memory of its own, beside the weights
// that are already there, and what to change where they do not fit.
#pragma once

#include <cstdint>

#include "engine/model/config.h"
#include "kernels/device.h"

namespace quire {

/// Rows that are generated together.
struct GenerationShape {
  int batch = 0;           // B
  int longest_prompt = 0;  // tokens
  int most_new = 0;        // tokens that the row with the most of them may get
  bool beams = false;      // of one search
};

/// Throws Error(no_space) where the caches, activations and logits of such a batch do not fit. Its
/// next step is the --batch-size that does, with the same texts, or --num-beams in a search, or
/// --max-new-tokens.
void check_generation_memory(const Device& device, const Gpt2Config& model, DType weights,
                             const GenerationShape& shape);

/// The same for a batch of windows that are scored together: a --batch-size that gives the same
/// result, or a smaller --window.
void check_scoring_memory(const Device& device, const Gpt2Config& model, DType weights, int batch,
                          int window);

}  // namespace quire

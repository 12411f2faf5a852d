// More rows for a model whose tokenizer got more tokens.
#pragma once

#include <cstdint>

#include "engine/model/config.h"
#include "engine/model/parameters.h"

namespace quire {

/// The parameters, f32 and in memory of their own, with `config.vocab_size` rows of wte and of an
/// untied head, of which those that `parameters` has not are drawn as transformers'
/// resize_token_embeddings() draws them: around the mean of the old rows, with 1e-9 of their
/// covariance. The same seed gives the same rows. `config` differs from that of `parameters` in
/// vocab_size alone, which is the larger one.
Parameters grow_vocabulary(Device& device, const Gpt2Config& config, const Parameters& parameters,
                           std::uint64_t seed);

}  // namespace quire

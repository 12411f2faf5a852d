// More rows for a model whose tokenizer got more tokens.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/model/config.h"
#include "engine/model/parameters.h"

namespace quire {

/// `count` further rows for a table of rows of C floats, as transformers' resize_token_embeddings()
/// draws them: around the mean of the old rows, with 1e-9 of their covariance. The same seed and
/// stream give the same rows, on any number of threads.
std::vector<float> drawn_rows(std::span<const float> table, std::int64_t C, std::int64_t count,
                              std::uint64_t seed, std::uint64_t stream);

/// The parameters, f32 and in memory of their own, with `config.vocab_size` rows of wte and of an
/// untied head, of which those that `parameters` has not are drawn_rows(), whose stream is the tensor's
/// place among the parameters. `config` differs from that of `parameters` in
/// vocab_size alone, which is the larger one.
Parameters grow_vocabulary(Device& device, const Gpt2Config& config, const Parameters& parameters,
                           std::uint64_t seed);

}  // namespace quire

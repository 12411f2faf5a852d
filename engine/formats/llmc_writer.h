// Writing llm.c's model.bin (llmc_checkpoint.h).
#pragma once

#include <vector>

#include "engine/formats/sink.h"

namespace quire {

/// Tensors of parameter_list(config), whose types are wanted ones: where all are BF16 the file is
/// of version 5, else of version 3, and all of it float32. The table of tokens is filled up with
/// rows of zeros to a multiple of 128, as train_gpt2.py does it. Throws Error(bad_data) for what
/// llm.c has no place for: a head of its own, another activation, epsilon or width of the MLP,
/// other scales of the scores.
FileLayout llmc_layout(const Gpt2Config& config, std::vector<OutTensor> tensors);

}  // namespace quire

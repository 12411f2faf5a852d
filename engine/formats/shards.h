// A model's tensors in several files, as transformers' save_pretrained() shares them out.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "engine/formats/sink.h"

namespace quire {

/// The numbers of the tensors of each file, in their order: a file ends before the tensor with
/// which it would have more than `most` bytes of data; a tensor of more has a file of its own.
std::vector<std::vector<std::size_t>> share_out(std::span<const OutTensor> tensors,
                                                std::size_t most);

/// "model-00001-of-00003.safetensors" of "model.safetensors", for index 0; of one file the name.
std::string shard_name(const std::string& name, std::size_t index, std::size_t count);

/// model.safetensors.index.json: which file has which tensor, and how many bytes and numbers all of
/// them have. `shared`: further names, as torch_layout() has them.
std::string shard_index(const std::string& name, std::span<const OutTensor> tensors,
                        const std::vector<std::vector<std::size_t>>& files,
                        const std::vector<std::pair<std::string, std::string>>& shared);

}  // namespace quire

// Writing a PyTorch checkpoint of tensors by name, as torch.save() writes a state dict: a zip
// archive of stored files, data.pkl and a file for each storage, whose data start at multiples of
// 64 bytes.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "engine/formats/sink.h"

namespace quire {

/// `archive`: the folder within, by convention the file's name without its extension. `shared`:
/// further names, each of a tensor whose storage it shares: a tied head. Types are F32, F16 and
/// BF16.
FileLayout torch_layout(std::vector<OutTensor> tensors,
                        const std::vector<std::pair<std::string, std::string>>& shared,
                        const std::string& archive);

}  // namespace quire

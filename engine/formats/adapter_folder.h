// A LoRA adapter's folder as PEFT writes and reads it: adapter_config.json and
// adapter_model.safetensors. The model that it adapts lies elsewhere.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "engine/formats/adapter_config.h"
#include "engine/formats/source.h"
#include "engine/model/lora.h"

namespace quire {

/// Whether a folder holds an adapter and no model of its own.
bool is_adapter(const std::filesystem::path& folder);

/// The rows of the embedding that an adapter brings along, 0 where it brings none:
/// from the header alone.
int adapted_vocab_size(const std::filesystem::path& folder);

/// A tensor of an adapter's file, of the extents that are given; those below 0 may be any. Throws
/// Error(bad_data) where it is missing, does not fit or is no weight, and says who wants it and who
/// its shape: "adapter_config.json", "rank".
const FileTensor& adapter_tensor(const TensorSource& file, const std::string& name,
                                 const std::vector<std::int64_t>& extents,
                                 const std::string& wanted_by, const std::string& shaped_by);

/// The adapter of a model with that config, without the embeddings that it may bring along; for
/// kinds of adapters beyond LoraAdapter's see adapter_merge.h. Throws Error(bad_data) naming file,
/// tensor and shapes for tensors that are missing, left over or do not fit,
/// and for numbers that are not finite.
LoraAdapter load_adapter(Device& device, const std::filesystem::path& folder,
                         const Gpt2Config& config);

/// Writes both files, as f32, and with `tables` the embedding and the head of these parameters,
/// which have rows that the base has not; makes the folder when it is not there. Each is replaced
/// atomically, the weights last. Throws Error(diverged) for weights that are not finite,
/// Error(no_space) when the disk is full.
void save_adapter(Device& device, const std::filesystem::path& folder, const LoraAdapter& adapter,
                  const std::string& base_model_name_or_path, const Parameters* tables = nullptr);

}  // namespace quire

// A LoRA adapter's folder as PEFT writes and reads it: adapter_config.json and
// adapter_model.safetensors. The model that it adapts lies elsewhere.
#pragma once

#include <filesystem>
#include <string>

#include "engine/formats/adapter_config.h"
#include "engine/model/lora.h"

namespace quire {

/// Whether a folder holds an adapter and no model of its own.
bool is_adapter(const std::filesystem::path& folder);

/// The rows of the embedding that an adapter brings along, 0 where it brings none:
/// from the header alone.
int adapted_vocab_size(const std::filesystem::path& folder);

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

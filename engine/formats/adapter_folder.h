// A LoRA adapter's folder as PEFT writes and reads it: adapter_config.json and
// adapter_model.safetensors. The model that it adapts lies elsewhere.
#pragma once

#include <filesystem>
#include <string>

#include "engine/model/lora.h"

namespace quire {

/// What adapter_config.json says.
struct AdapterConfig {
  LoraConfig lora;
  std::string base_model_name_or_path;  ///< the model it adapts: a path or a Hub name
};

/// Whether a folder holds an adapter and no model of its own.
bool is_adapter(const std::filesystem::path& folder);

/// Throws Error(bad_data) naming the file and the field: for what is not a LoRA adapter, and for
/// kinds of it that change more than products of blocks (DoRA, biases, whole modules, ranks or
/// alphas of their own).
AdapterConfig read_adapter_config(const std::filesystem::path& folder);

/// The adapter of a model with that config. Throws Error(bad_data) naming file, tensor and shapes
/// for tensors that are missing, left over or do not fit, and for numbers that are not finite.
LoraAdapter load_adapter(Device& device, const std::filesystem::path& folder,
                         const Gpt2Config& config);

/// Writes both files, as f32; makes the folder when it is not there. Each is replaced atomically,
/// the weights last. Throws Error(diverged) for weights that are not finite, Error(no_space) when
/// the disk is full.
void save_adapter(Device& device, const std::filesystem::path& folder, const LoraAdapter& adapter,
                  const std::string& base_model_name_or_path);

}  // namespace quire

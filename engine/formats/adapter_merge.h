// Adapters of every kind that adapter_config.h reads, merged into the model that they adapt.
#pragma once

#include <filesystem>

#include "engine/formats/hub_folder.h"

namespace quire {

/// The model with the adapter of a folder in its weights: what PEFT computes with both. What the
/// adapter brings beside its pairs (biases, whole modules, embeddings with new rows) takes the
/// place of the model's own; a head that was tied to an embedding which only one of them changes
/// is tied no more. Throws Error(bad_data) naming file, tensor and shapes for tensors that are
/// missing, left over or do not fit, and for numbers that are not finite.
LoadedModel merge_adapter_folder(Device& device, const std::filesystem::path& folder,
                                 LoadedModel base);

/// The model with the embeddings that the adapter brings along and nothing else of it: what the
/// adapter is trained on.
LoadedModel with_adapter_tables(Device& device, const std::filesystem::path& folder,
                                LoadedModel base);

}  // namespace quire

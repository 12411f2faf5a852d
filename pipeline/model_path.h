// What --model means: a folder, a file, the name of a bundled model, or a Hub name whose files are
// in the local cache of the Hugging Face Hub. Never opens a socket. A folder may be that of a LoRA
// adapter: the model is then the one it adapts, and the adapter is merged into it while loading.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "engine/formats/hub_folder.h"

namespace quire {

/// The folder (or .safetensors file) that `model` stands for, an adapter's folder included. A path
/// that exists wins, then models/NAME that comes with the program, then the Hub cache. Throws
/// Error(usage) for an empty name and Error(bad_data) listing every place looked at.
std::filesystem::path resolve_model(const std::string& model);

/// The model itself: what resolve_model() found or, of an adapter, the model it adapts, whose name
/// is taken as a path beside the adapter first and then as --model would take it. Throws
/// Error(bad_data) where that model is not there.
std::filesystem::path base_model(const std::filesystem::path& resolved_model);

/// Whether `model` is a name that the Hub knows it by: no path, and no bundled model's name.
bool is_hub_name(const std::string& model);

/// What an adapter's config calls the model that --model names, so that PEFT finds it as well:
/// its name on the Hub, or the absolute path of its folder (of a file that lies in none that PEFT
/// reads, the file's own). Throws as resolve_model().
std::string name_for_peft(const std::string& model);

/// The folder of a resolved model: where its config.json lies, if it has one.
std::filesystem::path config_folder(const std::filesystem::path& resolved_model);

/// What that file says, or the weights where there is none, with the rows of the embedding that an adapter brings along.
Gpt2Config resolved_config(const std::filesystem::path& resolved_model);

/// The folder of a model that has all that training goes on from: config, weights and tokenizer.
std::optional<std::filesystem::path> find_whole_model(const std::string& model);

/// Whether a resolved model is more than sizes: an adapter, or a folder or file that may hold weights,
/// read or not. load_resolved() tells of those that are not.
bool has_more_than_config(const std::filesystem::path& resolved_model);

/// load_model() for a resolved model, with the adapter merged where it is one: into plain elements,
/// which are rounded to blocks afterwards where the storage asks for them. Throws
/// Error(bad_data), too, where a folder has no weights, and says how to get those of the Hub.
LoadedModel load_resolved(Device& device, const std::filesystem::path& resolved_model,
                          WeightStorage storage);

}  // namespace quire

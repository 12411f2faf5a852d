// What --model means: a folder, a file, the name of a bundled model, or a Hub name whose files are
// in the local cache of the Hugging Face Hub. Never opens a socket.
#pragma once

#include <filesystem>
#include <string>

namespace quire {

/// The folder (or .safetensors file) that `model` stands for. A path that exists wins, then
/// models/NAME that comes with the program, then the Hub cache. Throws Error(usage) for an empty
/// name and Error(bad_data) listing every place looked at.
std::filesystem::path resolve_model(const std::string& model);

/// The folder that holds the tokenizer of a resolved model: itself, or where the file lies.
std::filesystem::path tokenizer_folder(const std::filesystem::path& resolved_model);

/// The same for --tokenizer: a folder needs a tokenizer's files only, not a model's.
std::filesystem::path resolve_tokenizer(const std::string& tokenizer);

/// $HF_HUB_CACHE, $HF_HOME/hub, $XDG_CACHE_HOME/huggingface/hub or ~/.cache/huggingface/hub.
std::filesystem::path hub_cache();

}  // namespace quire
